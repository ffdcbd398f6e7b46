"""Names, types, numbers, attributes and tensors as text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from offramp.compiler.errors import UnsupportedError
from offramp.compiler.ir.fingerprint import tensor_fingerprint

SHORT = 16
"""Tensors up to this many elements are written out even where others are hashes."""
LONG = 1024
"""Tensors above this many elements are written as bytes where all are inline."""

_BARE_VALUE = re.compile(r"[\w./-]*[\w/]", re.ASCII)
_BARE_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PLAIN = frozenset(
    f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)
) | {"bool"}


def value_name(value: ir.Value | None) -> str:
    """`%name`, quoted where the name has unusual characters; `_` for a missing value."""
    if value is None or not value.name:
        return "_"
    name = value.name
    return f"%{name}" if _BARE_VALUE.fullmatch(name) else f"%{json.dumps(name)}"


def bare_name(name: str) -> str:
    """An identifier as it is, anything else quoted."""
    return name if _BARE_NAME.fullmatch(name) else json.dumps(name)


def type_text(dtype: ir.DataType | None, shape: ir.Shape | ir.ShapeProtocol | None) -> str:
    """`float[1,16,8,8]`."""
    kind = "undefined" if dtype is None else dtype.name.lower()
    dims = "?" if shape is None else ",".join(str(dim) for dim in shape)
    return f"{kind}[{dims}]"


def typed_value(value: ir.Value) -> str:
    """`%name: float[1,16,8,8]`; `_` for a missing output."""
    if not value.name:
        return "_"
    return f"{value_name(value)}: {type_text(value.dtype, value.shape)}"


def tensor_text(tensor: ir.TensorProtocol, *, inline: bool) -> str:
    """The elements in row-major order, or the hash of a tensor that is not short.

    Long tensors, and types that NumPy has no literals for, are written as their bytes.
    """
    if not inline and tensor.size > SHORT:
        return f"sha256:{tensor_fingerprint(tensor)}"
    array = tensor.numpy()
    if tensor.size > LONG or array.dtype.name not in _PLAIN:
        return f"hex:{tensor.tobytes().hex()}"
    if array.dtype == np.bool_:
        return f"[{', '.join('true' if x else 'false' for x in array.ravel())}]"
    return f"[{', '.join(str(x) for x in array.ravel())}]"


def attribute_text(attribute: ir.Attr, *, inline: bool) -> str:
    """`name = value`; lists carry their element type where they are empty.

    Raises:
        UnsupportedError: the attribute is a graph or a type.
    """
    match attribute.type:
        case ir.AttributeType.INT:
            text = str(attribute.as_int())
        case ir.AttributeType.FLOAT:
            text = float_text(attribute.as_float())
        case ir.AttributeType.STRING:
            text = json.dumps(attribute.as_string())
        case ir.AttributeType.INTS:
            text = _list("ints", [str(x) for x in attribute.as_ints()])
        case ir.AttributeType.FLOATS:
            text = _list("floats", [float_text(x) for x in attribute.as_floats()])
        case ir.AttributeType.STRINGS:
            text = _list("strings", [json.dumps(x) for x in attribute.as_strings()])
        case ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            kind = type_text(tensor.dtype, tensor.shape)
            text = f"tensor {kind} {tensor_text(tensor, inline=inline)}"
        case _:
            raise UnsupportedError(
                f"attribute {attribute.name!r} of type {attribute.type} has no textual form"
            )
    return f"{attribute.name} = {text}"


def float_text(number: float) -> str:
    """The shortest text that reads back as the same number, always told from an integer."""
    return repr(float(number))


def _list(kind: str, items: Sequence[str]) -> str:
    return f"[{', '.join(items)}]" if items else f"{kind} []"
