"""The assignment against exhaustive enumeration."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.compiler.boards import Span
from offramp.passes.memory.assign import WORD, Cut, Resident, assign

FLASH = Span("flash", 1 << 20, 9)
MEMORIES = (Span("tcm", 40, 1), Span("sram", 60, 4))


@st.composite
def residents(draw: st.DrawFn) -> tuple[Resident, ...]:
    sizes = st.integers(0, 40)
    traffic = st.integers(0, 1000).map(float)
    live = st.none() | st.integers(1, 15)
    count = draw(st.integers(1, 5))
    return tuple(Resident(f"r{i}", draw(sizes), draw(traffic), draw(live)) for i in range(count))


def fits(every: tuple[Resident, ...], places: tuple[str, ...], cuts: tuple[Cut, ...]) -> bool:
    lies = dict(zip((r.name for r in every), places, strict=True))
    for memory in MEMORIES:
        inside = [r for r in every if lies[r.name] == memory.name]
        copied = sum(r.size for r in inside if r.live is None)
        used = [
            sum(r.size for r in inside if r.live is not None and r.live >> step & 1)
            for step in range(4)
        ]
        needed = [
            c.size
            for c in cuts
            if c.memory == memory.name and all(lies[name] == memory.name for name in c.names)
        ]
        if copied + max([*used, *needed]) > memory.bytes:
            return False
    return True


def cheapest(every: tuple[Resident, ...], cuts: tuple[Cut, ...]) -> float | None:
    cycles = {span.name: span.cycles for span in (*MEMORIES, FLASH)}
    ram = [memory.name for memory in MEMORIES]
    choices = [ram if r.live is not None else [*ram, "flash"] for r in every]
    costs = [
        sum(r.traffic * cycles[place] / WORD for r, place in zip(every, places, strict=True))
        for places in product(*choices)
        if fits(every, places, cuts)
    ]
    return min(costs, default=None)


@settings(deadline=None)
@given(residents(), st.data())
def test_no_assignment_is_cheaper(every: tuple[Resident, ...], data: st.DataObject) -> None:
    buffers = [r.name for r in every if r.live is not None]
    cuts: tuple[Cut, ...] = ()
    named = data.draw(st.sets(st.sampled_from(buffers))) if buffers else set[str]()
    if named:
        memory = data.draw(st.sampled_from([m.name for m in MEMORIES]))
        cuts = (Cut(memory, frozenset(named), data.draw(st.integers(0, 100)), True),)
    found, best = assign(every, MEMORIES, FLASH, cuts), cheapest(every, cuts)
    if found is None:
        assert best is None
        return
    assert found.cycles == found.lower_bound == best
    places = tuple(found.memory.get(r.name, "flash") for r in every)
    assert fits(every, places, cuts)


def test_the_same_question_has_the_same_answer() -> None:
    every = tuple(Resident(f"r{i}", 10, 7.0, 1 << i % 3) for i in range(9))
    assert assign(every, MEMORIES, FLASH, ()) == assign(every, MEMORIES, FLASH, ())
