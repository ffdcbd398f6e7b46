"""One ONNX node to Relax: by a lowering of ours, by TVM's importer, or by ONNX's function body."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Any

import numpy as np
import onnx

from offramp.backends.tvm.tail import folding, functions
from offramp.backends.tvm.tail.control import CONTROL_FLOW
from offramp.backends.tvm.tail.declared import recover
from offramp.backends.tvm.tail.encoding import (
    Encoded,
    Rounding,
    arithmetic,
    arithmetic_array,
    decode,
    encode,
    is_encoded,
    stored,
)
from offramp.backends.tvm.tail.operators import BY_FUNCTION_BODY, LOWERINGS, OperatorCall
from offramp.backends.tvm.tail.refusal import OwnRefusalError, RefusalError, reason_of
from offramp.backends.tvm.tail.scope import Attributes, Scope, resolved
from offramp.backends.tvm.tail.types import TensorType, numpy_dtype
from offramp.backends.tvm.tail.untyped import ir as tvm_ir
from offramp.backends.tvm.tail.untyped import relax
from offramp.backends.tvm.tail.values import (
    as_declared,
    bits_of,
    expression,
    shape_constant,
    type_of,
    with_plain_types,
    without_data,
)

Declared = tuple[TensorType | None, ...]


@dataclass(frozen=True)
class Site:
    """A node where it is used, with operands and types as operators compute with them.

    declared: output types, as far as the model declares them. dtypes: the element types that the
    outputs are stored in.
    """

    node: onnx.NodeProto
    operands: list[Any]
    attributes: Attributes
    scope: Scope
    declared: Declared
    dtypes: tuple[str | None, ...]


class NodeImporter:
    """Lowers nodes into one block builder; function bodies and branches recurse."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def lower(self, node: onnx.NodeProto, scope: Scope, declared: Declared = ()) -> list[Any]:
        """The node's outputs: NumPy arrays where they are constant, else Relax expressions.

        declared: types of the outputs, as far as the model declares them.

        Raises:
            RefusalError: no way of lowering fits; the message is the reason of the first.
        """
        attributes, operands = scope.attributes_of(node), scope.operands(node)
        if folding.foldable(node, operands) and folding.small(declared):
            return folding.fold(node, operands, attributes, scope.opsets)
        if declared and all(t is not None and t.elements == 0 for t in declared):
            return [np.zeros(t.shape, numpy_dtype(t.dtype)) for t in declared if t is not None]
        if node.op_type == "BitCast":
            plain, view = [bits_of(o) for o in operands], stored
        else:
            plain, view = [self._decoded(o) for o in operands], arithmetic
        if declared:
            types = tuple(None if t is None else view(t) for t in declared)
            first = type_of(plain[0]) if plain and plain[0] is not None else None
            plain = recover(node.op_type, plain, first, types, attributes)
        else:
            types = ()
        plain_attributes = with_plain_types(attributes, view)
        dtypes = tuple(None if t is None else t.dtype for t in declared)
        site = Site(node, plain, plain_attributes, scope, types, dtypes)
        results = self._first_that_fits(site)
        if node.op_type == "BitCast":
            return [as_declared(r, t) for r, t in zip_longest(results, dtypes)]
        rounding = Rounding(bool(attributes.get("saturate", 1)), _round_mode(attributes))
        return [self._encoded(r, t, rounding) for r, t in zip_longest(results, dtypes)]

    def _decoded(self, operand: Any) -> Any:
        if isinstance(operand, Encoded):
            return decode(self._builder, operand)
        return arithmetic_array(operand) if isinstance(operand, np.ndarray) else operand

    def _encoded(self, result: Any, dtype: str | None, rounding: Rounding) -> Any:
        if result is None or dtype is None or not is_encoded(dtype):
            return result
        return encode(self._builder, expression(result), dtype, rounding)

    def straight_line(
        self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], scope: Scope
    ) -> list[Any]:
        """Lower a body node by node; its outputs, None for those that it leaves undefined.

        Raises:
            RefusalError: one of the nodes has no lowering.
        """
        for node in nodes:
            try:
                results = self.lower(node, scope)
            except RefusalError as error:
                raise RefusalError(f"{error} ({node.op_type} in its definition)") from error
            for name, result in zip(node.output, results, strict=False):
                if name:
                    scope.values[name] = self.bound(result)
        return [scope.values.get(name) for name in outputs]

    def bound(self, result: Any) -> Any:
        """A result that can be read several times: a constant or a variable."""
        is_final = result is None or isinstance(result, np.ndarray | Encoded)
        return result if is_final else self._builder.emit(result)

    def results(self, result: Any) -> list[Any]:
        """What a converter returned, taken apart into one entry for each output."""
        match result:
            case np.ndarray() | None:
                return [result]
            case list() | tuple():
                return [r for one in result for r in self.results(one)]
            case relax.Tuple():
                return [r for one in result.fields for r in self.results(one)]
            case relax.ShapeExpr():
                return [shape_constant(result)]
            case tvm_ir.GenericConst():
                return [result.value.numpy()]
            case _:
                return self._unpacked(self._builder.emit(result))

    def _unpacked(self, variable: Any) -> list[Any]:
        if not isinstance(variable.ty, relax.TupleType):
            return [variable]
        fields = range(len(variable.ty.fields))
        return [self._builder.emit(relax.TupleGetItem(variable, i)) for i in fields]

    def _first_that_fits(self, site: Site) -> list[Any]:
        reasons: list[str] = []
        for way in self._ways(site.node):
            try:
                results = way(site)
                if results is not None:
                    _check_types(results, site.declared)
                    return [without_data(r) for r in results]
            except OwnRefusalError:
                raise
            except Exception as error:  # whatever TVM raises is a reason to refuse, not a crash
                reasons.append(reason_of(error))
        raise RefusalError(reasons[0] if reasons else "there is no lowering for this operator")

    def _ways(self, node: onnx.NodeProto) -> list[Callable[[Site], list[Any] | None]]:
        if node.domain:
            return [self._function_body]
        if node.op_type in CONTROL_FLOW:
            return [self._control_flow]
        if node.op_type in BY_FUNCTION_BODY:
            return [self._own, self._function_body, self._tvm]
        return [self._own, self._tvm, self._function_body]

    def _control_flow(self, site: Site) -> list[Any] | None:
        return CONTROL_FLOW[site.node.op_type](self, site)

    def _own(self, site: Site) -> list[Any] | None:
        lowering = LOWERINGS.get(site.node.op_type)
        if lowering is None:
            return None
        call = OperatorCall(
            self._builder,
            tuple(site.operands),
            site.attributes,
            tuple(site.node.output),
            site.scope.version(""),
            site.declared,
            site.dtypes,
        )
        try:
            result = lowering(call)
        except Exception as error:
            raise OwnRefusalError(reason_of(error)) from error
        if isinstance(result, str):
            return self._inlined(functions.parse(result), site, site.attributes)
        return None if result is None else self.results(result)

    def _tvm(self, site: Site) -> list[Any] | None:
        from tvm.relax.frontend.onnx.onnx_frontend import onnx_input

        node = site.node
        if node.op_type not in _tvm_converters():
            return None
        convert = _tvm_converters()[node.op_type].get_converter(site.scope.version(""))
        custom = {"name": node.name, "num_outputs": len(node.output)}
        inputs = onnx_input([None if o is None else expression(o) for o in site.operands])
        attributes = {**site.attributes, "tvm_custom": custom}
        results = self.results(convert(self._builder, inputs, attributes, [{}, {}]))
        if len(results) < len(node.output):
            raise RefusalError(f"{len(node.output)} outputs are wanted, {len(results)} supported")
        return results

    def _function_body(self, site: Site) -> list[Any] | None:
        version = site.scope.version(site.node.domain)
        node = resolved(site.node, site.attributes)
        types = [None if o is None else type_of(o) for o in site.operands]
        body = functions.function_body(node, version, types)
        if body is None:
            return None
        defaults = functions.default_attributes(node, version, body)
        return self._inlined(body, site, defaults | site.attributes)

    def _inlined(self, body: onnx.FunctionProto, site: Site, attributes: Attributes) -> list[Any]:
        absent = [None] * (len(body.input) - len(site.operands))
        values = dict(zip(body.input, [*site.operands, *absent], strict=True))
        opsets = {o.domain: o.version for o in body.opset_import}
        scope = Scope(values, {**site.scope.opsets, **opsets}, attributes)
        return self.straight_line(body.node, body.output[: len(site.node.output)], scope)


@cache
def _tvm_converters() -> dict[str, Any]:
    from tvm.relax.frontend.onnx import onnx_frontend

    frontend: Any = onnx_frontend
    converters: dict[str, Any] = frontend._get_convert_map()
    return converters


def _check_types(results: Sequence[Any], declared: Declared) -> None:
    for position, result in enumerate(results):
        if result is None:
            continue
        found = type_of(result)
        wanted = declared[position] if position < len(declared) else None
        if wanted is not None and found != wanted:
            raise RefusalError(f"output {position} should be {wanted}, it is lowered to {found}")


def _round_mode(attributes: Attributes) -> str:
    mode = attributes.get("round_mode", b"up")
    return str(mode.decode())
