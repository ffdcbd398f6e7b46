"""Control flow inside function bodies: branches decided by constants, loops of known length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.types import constant, type_of_expression
from offramp.backends.tvm.tail.untyped import relax

if TYPE_CHECKING:
    from offramp.backends.tvm.tail.nodes import NodeImporter, Site

MAX_TRIPS = 256
"""Loops that run longer are not unrolled."""


def _branch(importer: NodeImporter, site: Site) -> list[Any]:
    """If: the branch that its condition picks.

    Raises:
        RefusalError: the condition depends on data.
    """
    condition = site.operands[0]
    if not isinstance(condition, np.ndarray):
        raise RefusalError("its condition depends on data")
    body = site.attributes["then_branch" if condition.item() else "else_branch"]
    return _run(importer, site, body, [])


def _scan(importer: NodeImporter, site: Site) -> list[Any]:
    """Scan (opset 9 and later): unrolled along the scanned axis.

    Raises:
        RefusalError: it scans backwards, along another axis than the first, or too long.
    """
    body, count = site.attributes["body"], site.attributes["num_scan_inputs"]
    settings = ("scan_input_axes", "scan_output_axes", "scan_input_directions")
    plain = not any(any(site.attributes.get(name, ())) for name in settings)
    if not plain or any(site.attributes.get("scan_output_directions", ())):
        raise RefusalError("only scans forward along the first axis are supported")
    if site.scope.version("") < 9:
        raise RefusalError("Scan is supported from opset 9 on")
    state = list(site.operands[: len(site.operands) - count])
    scanned = site.operands[len(state) :]
    collected: list[list[Any]] = [[] for _ in range(len(body.output) - len(state))]
    for trip in range(_trips(_extent(scanned[0]))):
        elements = [_element(importer, tensor, trip) for tensor in scanned]
        results = _run(importer, site, body, [*state, *elements])
        state, items = results[: len(state)], results[len(state) :]
        for column, item in zip(collected, items, strict=True):
            column.append(item)
    return [*state, *(_stacked(importer, column) for column in collected)]


def _loop(importer: NodeImporter, site: Site) -> list[Any]:
    """Loop: unrolled, if its trip count and its condition are known.

    Raises:
        RefusalError: how often it runs depends on data, or is too often.
    """
    limit, condition, *state = site.operands
    if not isinstance(limit, np.ndarray):
        raise RefusalError("its trip count depends on data")
    body = site.attributes["body"]
    collected: list[list[Any]] = [[] for _ in range(len(body.output) - 1 - len(state))]
    for trip in range(_trips(int(limit.reshape(())))):
        if condition is not None and not isinstance(condition, np.ndarray):
            raise RefusalError("its condition depends on data")
        if condition is not None and not condition.item():
            break
        counter, keep = np.array(trip, np.int64), np.array(True)
        results = _run(importer, site, body, [counter, keep, *state])
        condition, state = results[0], results[1 : 1 + len(state)]
        for column, item in zip(collected, results[1 + len(state) :], strict=True):
            column.append(item)
    return [*state, *(_stacked(importer, column) for column in collected)]


CONTROL_FLOW: dict[str, Callable[[NodeImporter, Site], list[Any]]] = {
    "If": _branch,
    "Loop": _loop,
    "Scan": _scan,
}
"""By operator."""


def _run(
    importer: NodeImporter, site: Site, body: onnx.GraphProto, arguments: list[Any]
) -> list[Any]:
    """One execution of a subgraph, which sees the names around it."""
    scope = site.scope.inner()
    for tensor in body.initializer:
        scope.values[tensor.name] = onnx.numpy_helper.to_array(tensor)
    for parameter, argument in zip(body.input, arguments, strict=True):
        scope.values[parameter.name] = importer.bound(argument)
    return importer.straight_line(body.node, [o.name for o in body.output], scope)


def _trips(count: int) -> int:
    if count > MAX_TRIPS:
        raise RefusalError(f"it runs {count} times, and at most {MAX_TRIPS} are unrolled")
    return count


def _extent(tensor: Any) -> int:
    if isinstance(tensor, np.ndarray):
        return len(tensor)
    return type_of_expression(tensor).shape[0]


def _element(importer: NodeImporter, tensor: Any, position: int) -> Any:
    """One entry along the first axis."""
    if isinstance(tensor, np.ndarray):
        return np.asarray(tensor[position])
    part = relax.op.strided_slice(tensor, [0], [position], [position + 1])
    return importer.bound(relax.op.squeeze(importer.bound(part), [0]))


def _stacked(importer: NodeImporter, items: list[Any]) -> Any:
    """Entries collected along a new first axis."""
    if not items:
        raise RefusalError("it never runs, so its results have no shape")
    if all(isinstance(item, np.ndarray) for item in items):
        return np.stack(items)
    wide = [constant(i) if isinstance(i, np.ndarray) else i for i in items]
    return importer.bound(relax.op.stack(wide, axis=0))
