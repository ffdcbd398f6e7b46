"""Operators about order along an axis: TopK, cumulative sums and products, reversal."""

from __future__ import annotations

from typing import Any

from offramp.backends.tvm.tail.operators.context import OperatorCall, replace_at
from offramp.backends.tvm.tail.untyped import relax, te, tirx


def top_k(call: OperatorCall) -> Any:
    """TopK by ranks: an element's rank is the number of elements that come before it.

    Quadratic in the extent, but without branches, sorting or scratch that depends on data. Equal
    elements keep their order, as ONNX asks for.
    """
    data, kind = call.expression(0), call.type_of(0)
    axis = call.attribute("axis", -1) % len(kind.shape)
    count = int(call.constant(1, "K").reshape(()))
    largest = bool(call.attribute("largest", 1))
    extent = kind.shape[axis]

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


def cumulative(call: OperatorCall) -> Any:
    """CumSum."""
    return _scan(call, product=False)


def cumulative_product(call: OperatorCall) -> Any:
    """CumProd."""
    return _scan(call, product=True)


def _scan(call: OperatorCall, product: bool) -> Any:
    """Each output reduces the inputs that come before it."""
    kind = call.type_of(0)
    axis = int(call.constant(1, "axis").reshape(())) % len(kind.shape)
    exclusive, backward = call.attribute("exclusive", 0), call.attribute("reverse", 0)
    multiply = te.comm_reducer(lambda a, b: a * b, lambda t: tirx.const(1, t), name="product")

    def compute(x: Any) -> Any:
        source = te.reduce_axis((0, kind.shape[axis]), "source")

        def element(*index: Any) -> Any:
            here, there = (source, index[axis]) if backward else (index[axis], source)
            included = there < here if exclusive else there <= here
            neutral = tirx.const(1 if product else 0, kind.dtype)
            value = tirx.Select(included, x(*replace_at(index, axis, source)), neutral)
            return multiply(value, axis=source) if product else te.sum(value, axis=source)

        return te.compute(kind.shape, element, name="cumulative")

    return call.compute(compute, call.expression(0))


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
