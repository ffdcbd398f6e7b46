"""A check of placements that shares nothing with the search: a sweep over time."""

from __future__ import annotations

from bisect import bisect_left

from offramp.compiler.errors import InternalError
from offramp.passes.memory.search.instance import Instance

Place = tuple[int, int, str]
"""First byte, the byte behind the last one, and whose they are."""


def check_offsets(instance: Instance, offsets: dict[str, int], capacity: int | None = None) -> None:
    """Check that every buffer has its own bytes, within the capacity, while it is in use.

    Raises:
        InternalError: a buffer has no offset or lies outside, or two overlap while both are live.
    """
    if offsets.keys() != {buffer.id for buffer in instance.buffers}:
        raise InternalError("memory plan: the offsets are not those of the instance's buffers")
    events: list[tuple[int, int, Place]] = []
    for buffer in instance.buffers:
        start, end = offsets[buffer.id], offsets[buffer.id] + buffer.size
        if start < 0 or (capacity is not None and end > capacity):
            raise InternalError(
                f"memory plan: {buffer.id!r} takes bytes {start} to {end}, outside {capacity}"
            )
        if buffer.size:
            place = (start, end, buffer.id)
            events += [(buffer.lower, 1, place), (buffer.upper, 0, place)]
    _sweep(sorted(events))


def _sweep(events: list[tuple[int, int, Place]]) -> None:
    """At equal times ends come before beginnings: lifetimes are half-open."""
    live: list[Place] = []
    for time, begins, place in events:
        if not begins:
            live.remove(place)
            continue
        at = bisect_left(live, place)
        for other in live[max(at - 1, 0) : at + 1]:
            if other[0] < place[1] and place[0] < other[1]:
                raise InternalError(
                    f"memory plan: {place[2]!r} and {other[2]!r} overlap at time {time}"
                )
        live.insert(at, place)
