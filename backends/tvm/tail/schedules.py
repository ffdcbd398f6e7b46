"""Default loop orders for fused functions: producers inlined, the contiguous axis innermost.

Backend compilers vectorise a contiguous innermost loop by themselves. What they do not do is
remove intermediate arrays, interchange the loops of a reduction, or reassociate a floating-point
sum, so that is what happens here. Schedules are deterministic and need no measurements.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.types import TensorType
from offramp.backends.tvm.tail.untyped import ffi, ir, s_tir, sym, te, tirx
from offramp.backends.tvm.tail.vector_math import without_libm
from offramp.compiler.targets import Target

_SPATIAL, _REDUCTION = tirx.IterVar.DataPar, tirx.IterVar.CommReduce
_TILE = 8
"""Vector registers that the accumulators of one reduction may fill."""


def schedule(function: Any, target: Target) -> Any:
    """The function with producers inlined and loops in a sane order.

    Raises:
        RefusalError: it calls TVM's run time, which emitted code does without, or does what C
            cannot on a target whose code is C.
    """
    _refuse_run_time_calls(function)
    _refuse_what_c_lacks(function, target)
    function = _serial(_without_offsets(function))
    if function.body.block.name_hint != "root":
        return function  # written loop by loop in TVM's operator library
    state = s_tir.Schedule(function)
    _inline_producers(state)
    for block in _blocks(state):
        nest = _nest(state, block)
        if nest is not None and nest.reductions:
            with suppress(s_tir.ScheduleError):  # then the loops stay as they are
                _order_reduction(state, nest, target)
    ordered = state.mod["main"]
    return without_libm(ordered) if target.vector_lanes > 1 else ordered


def _without_offsets(function: Any) -> Any:
    """The function over buffers that begin where their pointers point."""
    symbolic = [b for b in function.params if not isinstance(b.ty.elem_offset, tirx.IntImm)]
    fresh = {b: tirx.decl_buffer(b.shape, b.dtype, name=b.name) for b in symbolic}
    return function.specialize(fresh) if fresh else function


def _serial(function: Any) -> Any:
    """The function with its parallel loops run one after another: there is no thread pool."""

    def serial(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)

    return function.with_body(ffi.structural_map(function.body, (tirx.For, serial)))


def copy_function(kind: TensorType) -> Any:
    """A PrimFunc that copies one tensor."""
    source = te.placeholder(kind.shape, kind.dtype, name="source")
    copy = te.compute(kind.shape, lambda *i: source(*i), name="copy")  # noqa: PLW0108  # of any rank
    return te.create_prim_func([source, copy])


@dataclass(frozen=True)
class _Nest:
    """A block with its loops: spatial ones and reductions, outermost first."""

    block: Any
    statement: Any
    spatial: list[Any]
    reductions: list[Any]


def _blocks(state: Any) -> list[Any]:
    return list(state.get_child_blocks(state.get_sblock("root")))


def _nest(state: Any, block: Any) -> _Nest | None:
    """The loops of a block that has one loop for each of its iteration variables."""
    statement = state.get(block)
    loops = state.get_loops(block)
    kinds = [int(v.iter_type) for v in statement.iter_vars]
    if len(kinds) != len(loops) or any(k not in (_SPATIAL, _REDUCTION) for k in kinds):
        return None
    spatial = [loop for loop, k in zip(loops, kinds, strict=True) if k == _SPATIAL]
    reductions = [loop for loop, k in zip(loops, kinds, strict=True) if k == _REDUCTION]
    return _Nest(block, statement, spatial, reductions)


def _inline_producers(state: Any) -> None:
    outputs = {state.get(b).name_hint for b in state.get_output_blocks("root")}
    for block in _blocks(state):
        if state.get(block).name_hint not in outputs and _inlinable(state, block):
            with suppress(s_tir.ScheduleError):  # not defined element by element: stays a loop
                state.compute_inline(block)


def _inlinable(state: Any, block: Any) -> bool:
    """Whether computing it again at every use costs less than storing and loading it."""
    statement = state.get(block)
    if any(int(v.iter_type) != _SPATIAL for v in statement.iter_vars):
        return False
    if not _calls(statement.body):
        return True
    consumers = [state.get(c) for c in state.get_consumers(block)]
    return len(consumers) == 1 and all(int(v.iter_type) == _SPATIAL for v in consumers[0].iter_vars)


def _order_reduction(state: Any, nest: _Nest, target: Target) -> None:
    if not isinstance(nest.statement.body, tirx.BufferStore) or nest.statement.init is None:
        return  # several accumulators at once, such as argmax: left as it is
    inner = _contiguous_everywhere(state, nest)
    if inner is not None:
        _spatial_innermost(state, nest, inner, target)
    elif _contiguous_reduction(state, nest):
        _split_sum(state, nest, target)


def _spatial_innermost(state: Any, nest: _Nest, inner: Any, target: Target) -> None:
    """Accumulate a vector of outputs: reductions outside, the contiguous axis inside."""
    width = _vector_width(int(state.get(inner).extent), target)
    outer = [loop for loop in nest.spatial if not loop.same_as(inner)]
    if width < int(state.get(inner).extent):
        tiles, inner = state.split(inner, [None, width])
        outer.append(tiles)
    state.reorder(*outer, *nest.reductions, inner)
    if width % target.vector_lanes == 0 and target.vector_lanes > 1:
        state.vectorize(inner)
    initial = state.decompose_reduction(nest.block, nest.reductions[0])
    if width % target.vector_lanes == 0 and target.vector_lanes > 1:
        state.vectorize(state.get_loops(initial)[-1])


def _split_sum(state: Any, nest: _Nest, target: Target) -> None:
    """Reduce along the contiguous axis in several independent lanes, then across the lanes."""
    loop, lanes = nest.reductions[-1], target.vector_lanes
    extent = int(state.get(loop).extent)
    if lanes == 1 or extent % lanes or extent < 4 * lanes:
        return
    _, lane = state.split(loop, [None, lanes])
    partial = state.rfactor(lane, factor_axis=len(nest.spatial))
    loops = state.get_loops(partial)
    state.reorder(*loops[:-2], loops[-2], loops[-1])
    state.vectorize(loops[-1])
    initial = state.decompose_reduction(partial, loops[len(nest.spatial)])
    state.vectorize(state.get_loops(initial)[-1])


def _vector_width(extent: int, target: Target) -> int:
    """The widest tile of whole vectors that divides `extent`; all of it where none does."""
    widest = min(extent, target.vector_lanes * _TILE)
    for width in range(widest, target.vector_lanes - 1, -1):
        if extent % width == 0 and width % target.vector_lanes == 0:
            return width
    return extent


def _contiguous_everywhere(state: Any, nest: _Nest) -> Any | None:
    """The loop of the last axis written, if every read is contiguous in it or independent of it."""
    region = nest.statement.writes[0].region
    if not region or not nest.spatial or int(state.get(nest.spatial[-1]).extent) == 1:
        return None
    variable = _spatial_variables(nest.statement)[-1]
    if not region[-1].min.same_as(variable):
        return None
    loads = _loads(nest.statement.body)
    if all(_contiguous_or_independent(load, variable) for load in loads):
        return nest.spatial[-1]
    return None


def _contiguous_reduction(state: Any, nest: _Nest) -> bool:
    """Whether the last reduction runs along the last axis of what it reads."""
    variables = [v.var for v in nest.statement.iter_vars if int(v.iter_type) == _REDUCTION]
    written = nest.statement.writes[0].source
    loads = [load for load in _loads(nest.statement.body) if not load.source.same_as(written)]
    return bool(loads) and all(_contiguous_or_independent(load, variables[-1]) for load in loads)


def _spatial_variables(statement: Any) -> list[Any]:
    return [v.var for v in statement.iter_vars if int(v.iter_type) == _SPATIAL]


def _contiguous_or_independent(load: Any, variable: Any) -> bool:
    uses = [_mentions(index, variable) for index in load.indices]
    return not any(uses) or (not any(uses[:-1]) and _moves_by_one(load.indices[-1], variable))


def _moves_by_one(index: Any, variable: Any) -> bool:
    """Whether `index` is `variable` plus something independent of it."""
    parts = sym.detect_linear_equation(index, [variable])
    return len(parts) == 2 and getattr(parts[0], "value", None) == 1


def _loads(body: Any) -> list[Any]:
    found: list[Any] = []
    ffi.structural_walk(body, (ir.TensorLoad, found.append))
    return found


def _calls(body: Any) -> list[Any]:
    found: list[Any] = []
    ffi.structural_walk(body, (ir.Call, found.append))
    return found


def _mentions(expression: Any, variable: Any) -> bool:
    found: list[Any] = []
    ffi.structural_walk(expression, (ir.Var, found.append))
    return any(v.same_as(variable) for v in found)


def _refuse_run_time_calls(function: Any) -> None:
    for call in _calls(function.body):
        name = getattr(call.op, "name", "")
        if "packed" in name or "extern" in name:
            raise RefusalError(f"TVM lowers it to a call of its run time ({_callee(call)})")


def _refuse_what_c_lacks(function: Any, target: Target) -> None:
    """C has no half floats, and TVM's C reads the bits of a float through a pointer cast."""
    if target.llvm:
        return
    if any(str(buffer.dtype) == "float16" for buffer in function.params):
        raise RefusalError(f"{target.name} code is C, which has no float16")
    if any(getattr(c.op, "name", "") == "tirx.reinterpret" for c in _calls(function.body)):
        raise RefusalError(f"{target.name} code is C, in which it cannot change a float's bits")


def _callee(call: Any) -> str:
    first = call.args[0] if len(call.args) else None
    return str(getattr(first, "value", call.op.name))
