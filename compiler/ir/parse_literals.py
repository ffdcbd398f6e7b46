"""Types, tensors and attributes of the textual form."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir.reader import Reader
from offramp.compiler.ir.tokens import unquoted

Literal = int | float | str | bool


def parse_type(reader: Reader) -> tuple[ir.DataType, ir.Shape]:
    """`float[1,16,8,8]`."""
    word = reader.name()
    try:
        dtype = ir.DataType[word.upper()]
    except KeyError as error:
        raise reader.error(f"{word!r} is no element type") from error
    return dtype, ir.Shape(reader.listed("[", reader.integer, "]"))


def parse_tensor(
    reader: Reader,
    dtype: ir.DataType,
    shape: ir.Shape,
    weights: Mapping[str, ir.TensorProtocol],
) -> ir.TensorProtocol:
    """Elements, bytes or a hash, for a tensor of known type.

    Raises:
        UserError: the data does not fit the type, or no tensor of that hash is in `weights`.
    """
    dims = tuple(shape.numpy())
    if reader.peek().kind != "data":
        items = reader.listed("[", lambda: _literal(reader), "]")
        if len(items) != prod(dims):
            raise reader.error(f"a tensor of shape {list(dims)} cannot have {len(items)} elements")
        return ir.tensor(_array(reader, items, dtype).reshape(dims), dtype)
    kind, _, digits = reader.next().text.partition(":")
    if kind == "sha256":
        if digits not in weights:
            raise reader.error(f"no tensor with SHA-256 {digits} was given: pass it in `weights`")
        return weights[digits]
    return _from_bytes(reader, dtype, dims, digits)


def parse_attribute(reader: Reader, weights: Mapping[str, ir.TensorProtocol]) -> ir.Attr:
    """`name = value`."""
    name = reader.name()
    reader.expect("=")
    if reader.accept("tensor"):
        dtype, shape = parse_type(reader)
        return ir.AttrTensor(name, parse_tensor(reader, dtype, shape, weights))
    for kind, empty in _EMPTY.items():
        if reader.accept(kind):
            reader.listed("[", reader.number, "]")
            return ir.Attr(name, empty, [])
    if reader.peek().text != "[":
        return _scalar(name, _literal(reader))
    items = reader.listed("[", lambda: _literal(reader), "]")
    types = {type(item) for item in items}
    if len(types) != 1 or types == {bool}:
        raise reader.error(f"attribute {name!r} must be a list of numbers or strings of one kind")
    return ir.Attr(name, _LISTS[types.pop()], items)


def _scalar(name: str, value: Literal) -> ir.Attr:
    if isinstance(value, str):
        return ir.AttrString(name, value)
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    return ir.AttrInt64(name, int(value))


def _literal(reader: Reader) -> Literal:
    token = reader.next()
    if token.kind == "string":
        return unquoted(token.text)
    if token.kind == "name" and token.text in ("true", "false"):
        return token.text == "true"
    if token.kind != "number":
        raise UserError(f"line {token.line}: expected a number or a string, found {token}")
    try:
        return int(token.text)
    except ValueError:
        return float(token.text)


def _array(reader: Reader, items: list[Literal], dtype: ir.DataType) -> npt.NDArray[Any]:
    """The elements as an array, if each is exactly of the element type's kind."""
    kinds: tuple[type, ...] = (int, float)
    if dtype == ir.DataType.BOOL:
        kinds = (bool,)
    elif dtype.is_integer():
        kinds = (int,)
    try:
        if all(type(item) in kinds for item in items):
            return np.array(items, dtype.numpy())
    except OverflowError:
        pass
    raise reader.error(f"these elements are not all of type {dtype.name.lower()}")


def _from_bytes(
    reader: Reader, dtype: ir.DataType, dims: tuple[int, ...], digits: str
) -> ir.TensorProtocol:
    import onnx

    expected = (prod(dims) * dtype.bitwidth + 7) // 8
    if len(digits) != 2 * expected:
        raise reader.error(
            f"a tensor of {expected} bytes cannot be written in {len(digits)} digits"
        )
    proto = onnx.TensorProto(data_type=int(dtype), dims=dims, raw_data=bytes.fromhex(digits))
    return ir.serde.deserialize_tensor(proto)


_EMPTY = {
    "ints": ir.AttributeType.INTS,
    "floats": ir.AttributeType.FLOATS,
    "strings": ir.AttributeType.STRINGS,
}
_LISTS = {
    int: ir.AttributeType.INTS,
    float: ir.AttributeType.FLOATS,
    str: ir.AttributeType.STRINGS,
}
