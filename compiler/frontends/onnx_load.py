"""Read an ONNX model from a path, bytes or a proto; nothing in it is trusted yet.

Tensors are checked against the bytes that are there before anything is allocated for them, and
external data is read only from inside the model's folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir.inference import MAX_BYTES
from offramp.compiler.ir.onnx_form import MAX_NESTING

MAX_MODEL_BYTES = (1 << 31) - 1
"""Protobuf's limit, which every tool that the model passes through has."""


def load(source: Any, name: str | None) -> tuple[Any, str]:
    """The model as an `onnx.ModelProto` with all tensor data inside, and a name for it.

    Args:
        source: a path, the bytes of a file, or an `onnx.ModelProto` (which is not changed).
        name: overrides the name taken from the file or the graph.

    Raises:
        UserError: no such file, no ONNX, or tensors that are not what they declare.
    """
    import onnx

    folder: Path | None = None
    label = "the model"
    if isinstance(source, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(source)
    elif isinstance(source, bytes):
        model = _parse(source, "the given bytes")
    elif isinstance(source, str | Path):
        path = Path(source)
        label, folder = str(path), path.parent
        model = _parse(_read(path), label)
        name = name or path.stem
    else:
        raise UserError(
            f"cannot read a model from {type(source).__name__}: expected a path, bytes or a "
            "ModelProto"
        )
    found = list(tensors(model.graph, model.functions))
    _check_declared(found, label)
    for tensor in found:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _embed(tensor, folder)
        _check_present(tensor)
    return model, name or model.graph.name or "model"


def tensors(graph: Any, functions: Any = ()) -> Iterator[Any]:
    """Every TensorProto of a graph, its subgraphs and `functions`.

    Raises:
        UserError: subgraphs nest too deeply, or a tensor is sparse.
    """
    nodes = [(node, 0) for function in functions for node in function.node]
    graphs = [(graph, 0)]
    while graphs or nodes:
        if graphs:
            inner, depth = graphs.pop()
            if depth > MAX_NESTING:
                raise UserError(
                    f"the model nests subgraphs deeper than {MAX_NESTING} levels: flatten its `If`s"
                )
            if inner.sparse_initializer:
                raise UserError("the model has sparse initializers: store them as dense tensors")
            yield from inner.initializer
            nodes += [(node, depth) for node in inner.node]
            continue
        node, depth = nodes.pop()
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                graphs.append((attribute.g, depth + 1))
            graphs += [(g, depth + 1) for g in attribute.graphs]


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise UserError(f"{path} is a folder: expected an ONNX file")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _parse(data: bytes, label: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise UserError(
            f"{label} is no readable ONNX model ({len(data)} bytes): it is truncated, not ONNX, or "
            f"nests subgraphs deeper than {MAX_NESTING} levels; export it again"
        ) from error
    if not model.HasField("graph") or not model.graph.node:
        raise UserError(f"{label} holds no ONNX graph with operators: is it truncated or not ONNX?")
    return model


def _element_bits(tensor: Any) -> int:
    try:
        return ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError) as error:
        raise UserError(
            f"tensor {tensor.name!r} has element type {tensor.data_type}, which is not numeric"
        ) from error


def _elements(tensor: Any) -> int:
    count = 1
    for dim in tensor.dims:
        if dim < 0:
            raise UserError(f"tensor {tensor.name!r} has a negative dimension: {list(tensor.dims)}")
        count *= dim
    return count


def _declared_bytes(tensor: Any) -> int:
    return (_elements(tensor) * _element_bits(tensor) + 7) // 8


def _check_declared(found: list[Any], label: str) -> None:
    """Refuse tensors that are too large, alone or together, before anything is read for them."""
    for tensor in found:
        if (size := _declared_bytes(tensor)) > MAX_BYTES:
            raise UserError(
                f"tensor {tensor.name!r} declares {size / 2**30:.0f} GiB (shape "
                f"{list(tensor.dims)}): at most {MAX_BYTES >> 30} GiB are accepted"
            )
    if sum(_declared_bytes(tensor) for tensor in found) > MAX_MODEL_BYTES:
        raise UserError(
            f"{label} holds 2 GiB of weights or more: one ONNX message cannot carry that"
        )


def _check_present(tensor: Any) -> None:
    """Compare the declared size with the data that the file holds for it."""
    expected, found, unit = _declared_bytes(tensor), len(tensor.raw_data), "bytes"
    if not tensor.HasField("raw_data"):
        expected, found, unit = _typed_elements(tensor), _typed_found(tensor), "values"
    if expected != found:
        raise UserError(
            f"tensor {tensor.name!r} of shape {list(tensor.dims)} needs {expected} {unit} of data, "
            f"the model holds {found}: the file is damaged"
        )


def _typed_elements(tensor: Any) -> int:
    """How many repeated-field values a tensor without raw data has."""
    bits = _element_bits(tensor)
    if bits < 8:
        return (_elements(tensor) * bits + 7) // 8
    complex_types = (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)
    return _elements(tensor) * (2 if tensor.data_type in complex_types else 1)


def _typed_found(tensor: Any) -> int:
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
    return sum(len(getattr(tensor, field)) for field in fields)


def _embed(tensor: Any, folder: Path | None) -> None:
    """Move external data into the tensor."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    location = where.get("location", "")
    size = _declared_bytes(tensor)
    path = _inside(tensor.name, location, folder)
    try:
        offset = int(where.get("offset", "0"))
        length = int(where.get("length", str(size)))
    except ValueError as error:
        raise UserError(
            f"tensor {tensor.name!r} has a damaged external data entry: {where}"
        ) from error
    available = path.stat().st_size
    if length != size or offset < 0 or offset + length > available:
        raise UserError(
            f"tensor {tensor.name!r} needs {size} bytes at offset {offset} of {location!r}, which "
            f"has {available} bytes (declared length {length}): the files do not fit"
        )
    with path.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _inside(tensor: str, location: str, folder: Path | None) -> Path:
    if folder is None:
        raise UserError(
            f"tensor {tensor!r} keeps its data in the file {location!r}, but the model was given "
            "without a folder: pass the path of the model file"
        )
    root = folder.resolve()
    path = (root / location).resolve()
    if not location or Path(location).is_absolute() or not path.is_relative_to(root):
        raise UserError(
            f"tensor {tensor!r} wants its data from {location!r}, outside the model's folder "
            f"{root}: external data is read only from inside it"
        )
    if not path.is_file():
        raise UserError(
            f"tensor {tensor!r} wants its data from {location!r}, and {path} is no file"
        )
    return path
