"""Operators about order along an axis: TopK, cumulative sums and products, reversal."""

from __future__ import annotations

from typing import Any

from offramp.backends.tvm.tail.operators.context import OperatorCall, replace_at
from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.untyped import relax, te, tirx, topi

MAX_RANKED = 1 << 15
"""Longer axes are refused by TopK, whose cost is quadratic."""


def top_k(call: OperatorCall) -> Any:
    """TopK by ranks: an element's rank is the number of elements that come before it.

    Quadratic in the extent, but without branches, sorting or scratch that depends on data. Equal
    elements keep their order, as ONNX asks for.

    Raises:
        RefusalError: the axis is too long for that.
    """
    data, kind = call.expression(0), call.type_of(0)
    axis = call.attribute("axis", -1) % len(kind.shape)
    count = int(call.constant(1, "K").reshape(()))
    largest = bool(call.attribute("largest", 1))
    extent = kind.shape[axis]
    if extent > MAX_RANKED:
        raise RefusalError(f"it ranks {extent} elements, and at most {MAX_RANKED} are supported")

    def ranks(x: Any) -> Any:
        other = te.reduce_axis((0, extent), "other")

        def rank(*index: Any) -> Any:
            here, there = x(*index), x(*replace_at(index, axis, other))
            before = there > here if largest else there < here
            tie = tirx.all(there.equal(here), other < index[axis])
            return te.sum(tirx.any(before, tie).astype("int32"), other)

        return te.compute(kind.shape, rank, name="rank")

    def positions(rank: Any) -> Any:
        source = te.reduce_axis((0, extent), "source")

        def position(*index: Any) -> Any:
            hit = rank(*replace_at(index, axis, source)).equal(index[axis].astype("int32"))
            return te.sum(tirx.Select(hit, source, 0).astype("int64"), source)

        return te.compute(tuple(replace_at(kind.shape, axis, count)), position, name="position")

    order = call.compute(positions, call.compute(ranks, data))
    return relax.op.gather_elements(data, order, axis), order


def cumulative_sum(call: OperatorCall) -> Any:
    """CumSum."""
    return _scan(call, topi.cumsum)


def cumulative_product(call: OperatorCall) -> Any:
    """CumProd."""
    return _scan(call, topi.cumprod)


def _scan(call: OperatorCall, operator: Any) -> Any:
    """A running total; backwards it runs over the flipped axis."""
    kind, data = call.type_of(0), call.expression(0)
    axis = int(call.constant(1, "axis").reshape(())) % len(kind.shape)
    backward = call.attribute("reverse", 0)
    if backward:
        data = call.emit(relax.op.flip(data, axis))
    exclusive = bool(call.attribute("exclusive", 0))
    total = call.compute(lambda x: operator(x, axis, kind.dtype, exclusive), data)
    return relax.op.flip(total, axis) if backward else total


def reverse_sequence(call: OperatorCall) -> Any:
    """ReverseSequence: the first `sequence_lens[b]` steps of each sample in reverse."""
    kind = call.type_of(0)
    batch, time = call.attribute("batch_axis", 1), call.attribute("time_axis", 0)

    def compute(x: Any, lengths: Any) -> Any:
        def element(*index: Any) -> Any:
            length, step = lengths(index[batch]).astype("int64"), index[time].astype("int64")
            source = tirx.Select(step < length, length - 1 - step, step)
            return x(*replace_at(index, time, source))

        return te.compute(kind.shape, element, name="reverse_sequence")

    return call.compute(compute, call.expression(0), call.expression(1))
