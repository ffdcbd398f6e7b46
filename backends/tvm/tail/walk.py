"""From a fused Relax module to the ordered list of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm.tail.call import Operand, TailCall
from offramp.backends.tvm.tail.fusion import Fused, is_call_tir
from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.schedules import copy_function, schedule
from offramp.backends.tvm.tail.types import TensorType, type_of_expression, type_of_value
from offramp.backends.tvm.tail.untyped import ir as tvm_ir
from offramp.backends.tvm.tail.untyped import relax
from offramp.compiler.targets import Target


def calls_of(fused: Fused, graph: ir.Graph, target: Target) -> list[TailCall]:
    """The calls of `main` in order; graph outputs keep their names.

    Raises:
        RefusalError: TVM lowered an operator to a call into its own run time.
    """
    return _Walker(fused, graph, target).walk()


class _Walker:
    """Names the values of `main` and collects its calls."""

    def __init__(self, fused: Fused, graph: ir.Graph, target: Target) -> None:
        self._fused = fused
        self._graph = graph
        self._target = target
        declared = {str(v.name): type_of_value(v) for v in (*graph.inputs, *graph.outputs)}
        self._dtypes = {name: kind.dtype for name, kind in declared.items()}
        self._calls: list[TailCall] = []
        self._operands: dict[Any, Operand | tuple[str, ...]] = {}
        self._names: dict[Any, str] = {}

    def walk(self) -> list[TailCall]:
        main = self._fused.module["main"]
        parameters = zip(main.params, self._graph.inputs, strict=True)
        self._operands = {p: str(v.name) for p, v in parameters}
        bindings = [b for block in main.body.blocks for b in block.bindings]
        answer = next(b for b in bindings if b.var.same_as(_root(bindings, main.body.body)))
        self._name_outputs(bindings, answer.value.fields)
        for binding in bindings:
            if not binding.same_as(answer):
                self._operands[binding.var] = self._bind(binding.var, binding.value)
        self._return(answer.value.fields)
        return self._calls

    def _name_outputs(self, bindings: Sequence[Any], fields: Sequence[Any]) -> None:
        """Graph outputs are named before the calls that write them are met."""
        self._projections = {
            b.var: (b.value.tuple_value, b.value.index) for b in bindings if _is_projection(b.value)
        }
        for value, field in zip(self._graph.outputs, fields, strict=True):
            key = self._projections.get(field, field)
            if not _is_constant(field):
                self._names.setdefault(key, str(value.name))

    def _bind(self, variable: Any, value: Any) -> Operand | tuple[str, ...]:
        if is_call_tir(value):
            return self._call(variable, value)
        if _is_projection(value):
            return self._projected(value)
        if isinstance(value, relax.Call) and value.op == tvm_ir.Op.get("relax.reshape"):
            return self._view(variable, value.args[0])
        if isinstance(value, relax.Var):
            return self._operands[value]
        if _is_constant(value):
            return _contents(value)
        raise RefusalError(f"TVM lowers it to {str(value).splitlines()[0]}, which is no kernel")

    def _projected(self, value: Any) -> Operand:
        several = self._operands[value.tuple_value]
        if not isinstance(several, tuple):
            raise RefusalError("TVM takes apart what is no tuple")
        name: str = several[value.index]
        return name

    def _call(self, variable: Any, value: Any) -> str | tuple[str, ...]:
        name = value.args[0].name_hint
        function = schedule(self._fused.module[value.args[0]], self._target)
        several = not hasattr(variable.ty, "shape")
        types = (
            [type_of_expression(_Typed(field)) for field in variable.ty.fields]
            if several
            else [type_of_expression(variable)]
        )
        keys = [(variable, i) for i in range(len(types))] if several else [variable]
        outputs = tuple(self._name(key) for key in keys)
        inputs = tuple(self._operand(a) for a in value.args[1].fields)
        self._add(function, inputs, outputs, types, self._fused.nodes.get(name, ()))
        return outputs if several else outputs[0]

    def _view(self, variable: Any, source: Any) -> str:
        name = self._name(variable)
        self._alias(self._operand(source), name, type_of_expression(variable))
        return name

    def _return(self, fields: Sequence[Any]) -> None:
        """Graph outputs that no call writes."""
        written = {name for call in self._calls for name in call.outputs}
        for value, field in zip(self._graph.outputs, fields, strict=True):
            if value.name not in written:
                self._alias(self._operand(field), str(value.name), type_of_expression(field))

    def _alias(self, source: Operand, name: str, kind: TensorType) -> None:
        """A view; constants, and bits that change their element type, are copied instead."""
        if isinstance(source, str):
            renamed = self._dtypes.get(source) != self._dtypes.get(name, kind.dtype)
        else:
            renamed = True
        function = copy_function(kind) if renamed else None
        self._add(function, (source,), (name,), [kind], ())

    def _add(
        self,
        function: Any | None,
        inputs: tuple[Operand, ...],
        outputs: tuple[str, ...],
        types: Sequence[TensorType],
        nodes: tuple[str, ...],
    ) -> None:
        shapes = tuple(t.shape for t in types)
        dtypes = tuple(self._dtypes.get(n, t.dtype) for n, t in zip(outputs, types, strict=True))
        self._dtypes |= dict(zip(outputs, dtypes, strict=True))
        self._calls.append(TailCall(function, inputs, outputs, shapes, dtypes, nodes))

    def _operand(self, expression: Any) -> Operand:
        if _is_constant(expression):
            return _contents(expression)
        operand = self._operands[expression]
        if isinstance(operand, tuple):
            raise RefusalError("TVM passes a tuple between kernels")
        return operand

    def _name(self, key: Any) -> str:
        fresh = f"{self._graph.outputs[0].name}.{len(self._calls)}.{len(self._names)}"
        return self._names.setdefault(key, fresh)


class _Typed:
    """Gives a bare Relax type the interface of an expression."""

    def __init__(self, kind: Any) -> None:
        self.ty = kind


def _root(bindings: Sequence[Any], variable: Any) -> Any:
    """The variable that holds the answer's tuple, through plain renamings."""
    sources = {b.var: b.value for b in bindings if isinstance(b.value, relax.Var)}
    while variable in sources:
        variable = sources[variable]
    return variable


def _contents(constant: Any) -> npt.NDArray[Any]:
    data: npt.NDArray[Any] = constant.value.numpy()
    return data


def _is_projection(value: Any) -> bool:
    return isinstance(value, relax.TupleGetItem)


def _is_constant(value: Any) -> bool:
    return isinstance(value, tvm_ir.GenericConst)
