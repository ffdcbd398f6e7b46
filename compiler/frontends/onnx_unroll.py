"""Unroll `Loop` and `Scan` whose trip counts are constant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.errors import UnsupportedError
from offramp.compiler.ir.inference import describe

MAX_TRIPS = 64
"""Longer loops are refused: each trip is a copy of the body."""


class Site(Protocol):
    """The place before a loop's node; every value made there gets a static shape."""

    def inline(self, body: ir.Graph, arguments: Sequence[ir.Value]) -> list[ir.Value]:
        """Insert a copy of `body` with `arguments` for its inputs; returns its results."""
        ...

    def emit(
        self, op_type: str, inputs: Sequence[ir.Value], attributes: Sequence[ir.Attr] = ()
    ) -> ir.Value:
        """Insert a node with one output."""
        ...

    def constant(self, array: npt.NDArray[Any]) -> ir.Value:
        """Insert an initializer."""
        ...


def unroll_loop(node: ir.Node, site: Site) -> list[ir.Value]:
    """What stands for the outputs of a `Loop`.

    Raises:
        UnsupportedError: the trip count depends on data, or is above `MAX_TRIPS`.
    """
    limit, condition, *carried = node.inputs
    trips = None if limit is None else int(_constant_scalar(node, limit, "trip count"))
    body = node.attributes["body"].as_graph()
    state = [value for value in carried if value is not None]
    rows: list[list[ir.Value]] = []
    for trip in count():
        alive = condition is None or bool(_constant_scalar(node, condition, "condition"))
        if not alive or (trips is not None and trip >= trips):
            break
        _within_bound(node, trip + 1 if trips is None else trips)
        going = site.constant(np.array(True)) if condition is None else condition
        number = site.constant(np.array(trip, np.int64))
        keep_going, *results = site.inline(body, [number, going, *state])
        condition = None if condition is None else keep_going
        state, row = results[: len(state)], results[len(state) :]
        rows.append(row)
    stacked = len(node.outputs) - len(state)
    return [*state, *_stack(node, site, rows, [0] * stacked, [0] * stacked)]


def unroll_scan(node: ir.Node, site: Site) -> list[ir.Value]:
    """What stands for the outputs of a `Scan`.

    Raises:
        UnsupportedError: the sequence is longer than `MAX_TRIPS`.
    """
    scanned = node.attributes["num_scan_inputs"].as_int()
    body = node.attributes["body"].as_graph()
    inputs = [value for value in node.inputs if value is not None]
    state, sequences = inputs[:-scanned], inputs[-scanned:]
    stacked = len(node.outputs) - len(state)
    axes = _integers(node, "scan_input_axes", scanned)
    backward = _integers(node, "scan_input_directions", scanned)
    shape = sequences[0].shape
    trips = 0 if shape is None else int(shape.numpy()[axes[0]])
    _within_bound(node, trips)
    rows: list[list[ir.Value]] = []
    for trip in range(trips):
        places = [trips - 1 - trip if back else trip for back in backward]
        slices = [
            site.emit("Gather", [sequence, site.constant(np.array(place))], [_axis(axis)])
            for sequence, axis, place in zip(sequences, axes, places, strict=True)
        ]
        results = site.inline(body, [*state, *slices])
        state, row = results[: len(state)], results[len(state) :]
        rows.append(row)
    out_axes = _integers(node, "scan_output_axes", stacked)
    reverse = _integers(node, "scan_output_directions", stacked)
    return [*state, *_stack(node, site, rows, out_axes, reverse)]


def _stack(
    node: ir.Node, site: Site, rows: list[list[ir.Value]], axes: list[int], reverse: list[int]
) -> list[ir.Value]:
    """Each scan output: the rows of all trips along a new axis."""
    if axes and not rows:
        raise UnsupportedError(f"{describe(node)} never runs, so its scan outputs are empty")
    stacked: list[ir.Value] = []
    for position, (axis, back) in enumerate(zip(axes, reverse, strict=True)):
        column = [row[position] for row in rows]
        where = site.constant(np.array([axis], np.int64))
        lifted = [site.emit("Unsqueeze", [value, where]) for value in column]
        stacked.append(site.emit("Concat", lifted[::-1] if back else lifted, [_axis(axis)]))
    return stacked


def _constant_scalar(node: ir.Node, value: ir.Value, what: str) -> Any:
    if value.const_value is None:
        raise UnsupportedError(
            f"{describe(node)} has a {what} that depends on data ({value.name!r}): only loops with "
            f"constant trip counts up to {MAX_TRIPS} can be compiled"
        )
    return value.const_value.numpy().reshape(-1)[0]


def _within_bound(node: ir.Node, trips: int) -> None:
    if trips > MAX_TRIPS:
        raise UnsupportedError(
            f"{describe(node)} runs {trips} times or more: loops are unrolled up to {MAX_TRIPS} "
            "times"
        )


def _axis(axis: int) -> ir.Attr:
    return ir.AttrInt64("axis", axis)


def _integers(node: ir.Node, name: str, length: int) -> list[int]:
    attribute = node.attributes.get(name)
    return [0] * length if attribute is None else list(attribute.as_ints())
