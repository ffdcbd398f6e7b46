"""Read an ONNX model into a Program.

One path for straight-line models, models with `If` nested to any depth, and what `to_onnx` wrote.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)

from offramp.compiler.errors import InternalError, UnsupportedError, UserError
from offramp.compiler.frontends import onnx_checks as checks
from offramp.compiler.frontends.onnx_batch import Batch, set_batch_to_one
from offramp.compiler.frontends.onnx_control import read_branches
from offramp.compiler.frontends.onnx_load import load
from offramp.compiler.frontends.onnx_marked import (
    NotWrittenByUs,
    is_marked,
    output_count,
    read_marked,
)
from offramp.compiler.frontends.onnx_probe import samples_are_independent
from offramp.compiler.frontends.onnx_static import infer_static
from offramp.compiler.ir import Program
from offramp.compiler.ir import onnx_form as form
from offramp.compiler.ir.draft import Draft, close
from offramp.compiler.ir.inference import describe
from offramp.compiler.ir.names import make_names_unique
from offramp.compiler.ir.verifier import verify

if TYPE_CHECKING:
    import onnx


def from_onnx(
    source: str | Path | bytes | onnx.ModelProto,
    *,
    name: str | None = None,
    batched: bool | None = None,
) -> Program:
    """The Program of an ONNX model.

    A leading dimension shared by all inputs, free or fixed, is the batch and becomes 1; a model
    whose inputs share none is read as it is, with `batched=False`. All shapes are static after
    reading; functions are inlined and constants are initializers.

    Args:
        source: a path (external data is read from inside its folder only), the bytes of a file,
            or an `onnx.ModelProto`. Opset 13 to 26; others are converted where that is possible.
        name: the Program's name; default: the file's or graph's.
        batched: overrides whether the leading axis of the inputs counts samples.

    Raises:
        UserError: the file is damaged, hostile or no ONNX, or its batch cannot be set to 1.
        UnsupportedError: an operator, type or dynamic shape that offramp cannot compile; named.
    """
    proto, found = load(source, name)
    proto = _checked(proto)
    proto.graph.name = identifier(found)
    model = _to_ir(proto)
    if is_marked(model.graph):
        with contextlib.suppress(NotWrittenByUs):
            return _read_back(model, batched)
    return _read_plain(proto, batched)


def _read_back(model: ir.Model, batched: bool | None) -> Program:
    """The Program that `to_onnx` wrote, structure and annotations included.

    Raises:
        NotWrittenByUs: the metadata does not describe a Program.
    """
    if batched is None:
        batched = model.metadata_props.get(form.BATCHED) != "false"
    set_batch_to_one(model, batched)
    infer_static(model, fold=False)
    outputs = model.graph.outputs[: output_count(model.graph)]
    try:
        program = _program(model, read_marked(model.graph), outputs, batched)
    except InternalError as error:
        raise NotWrittenByUs(str(error)) from error
    for block in program.blocks.values():
        for node in block.graph:
            form.strip(node.metadata_props)
    return program


def _read_plain(proto: Any, batched: bool | None) -> Program:
    """Straight-line models, and `If`s as Branches."""
    guessed = Batch(batched=False, was=None, changed=False)
    try:
        model = _to_ir(proto)
        guessed = set_batch_to_one(model, batched)
        program = _read_at_batch_one(model, guessed)
        if not guessed.changed or _has_control_flow(proto):
            return program
        if samples_are_independent(proto, program, guessed.was):
            return program
        raise UserError(
            f"the leading axis of the inputs {[v.name for v in program.inputs]} cannot be set to "
            "1: the answers of samples that run together differ from those of each alone; export "
            "the model with batch 1"
        )
    except UserError:
        if batched is not None or guessed.was is None or not guessed.changed:
            raise
    return _read_plain(proto, batched=False)


def _read_at_batch_one(model: ir.Model, batch: Batch) -> Program:
    infer_static(model, former_batch=batch.was if batch.changed else None)
    RemoveUnusedNodesPass()(model)
    make_names_unique(model)
    _refuse_empty_results(model)
    return _program(model, read_branches(model.graph), model.graph.outputs, batch.batched)


def _refuse_empty_results(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None and 0 in value.shape.numpy():
                raise UnsupportedError(
                    f"{describe(node)} has output {value.name!r} of shape {value.shape}: it has no "
                    "elements, and such tensors cannot be compiled"
                )


def _has_control_flow(proto: Any) -> bool:
    return any(node.op_type == "If" for node in proto.graph.node)


def _program(
    model: ir.Model, drafts: list[Draft], outputs: Sequence[ir.Value], batched: bool
) -> Program:
    opset_imports = dict(model.graph.opset_imports)
    names = tuple(str(value.name) for value in outputs)
    blocks = close(drafts, opset_imports)
    program = Program(str(model.graph.name), blocks, names, opset_imports, batched)
    verify(program)
    return program


def identifier(name: str) -> str:
    """`name` as a C identifier."""
    word = re.sub(r"\W", "_", Path(name).name, flags=re.ASCII)
    return word if word[:1].isalpha() or word[:1] == "_" else f"m_{word}"


def _checked(proto: Any) -> Any:
    """Free of functions and hostile structure, and converted to a known opset."""
    from onnx import inliner

    checks.check_functions(proto)
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    _forget_initializer_inputs(proto)
    version = checks.opset(proto)
    checks.check_graph(proto.graph, version)
    checks.check_interface(proto.graph)
    checks.check_schema(proto)
    return _convert(proto, version)


FIRST_WITH_CONSTANTS = 4
"""The first IR version in which an initializer need not be an input."""


def _forget_initializer_inputs(proto: Any) -> None:
    """Old files list their weights among the inputs, as defaults that a caller may override."""
    graph = proto.graph
    if 0 < proto.ir_version < FIRST_WITH_CONSTANTS:
        proto.ir_version = FIRST_WITH_CONSTANTS
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) < len(graph.input):
        kept = [type(value).FromString(value.SerializeToString()) for value in inputs]
        del graph.input[:]
        graph.input.extend(kept)


def _to_ir(proto: Any) -> ir.Model:
    """Constants are initializers, names are unique."""
    try:
        model = ir.serde.deserialize_model(proto)
    except ir.serde.SerdeError as error:
        raise UserError(f"the model is not valid ONNX: {error.__cause__ or error}") from error
    version = checks.opset(proto)
    model.graph.opset_imports.clear()
    model.graph.opset_imports[""] = version
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in model.graph.all_nodes():
        node.name = node.name or next((str(value.name) for value in node.outputs), "")
    make_names_unique(model)
    return model


def _convert(proto: Any, version: int) -> Any:
    import onnx

    if checks.OLDEST_OPSET <= version <= checks.NEWEST_OPSET:
        return proto
    goal = max(checks.OLDEST_OPSET, min(version, checks.NEWEST_OPSET))
    if checks.same_meaning(proto.graph, version, goal):
        for entry in proto.opset_import:
            entry.version = goal if entry.domain in checks.STANDARD else entry.version
        return proto
    try:
        return onnx.version_converter.convert_version(proto, goal)
    except Exception as error:
        reason = str(error).rpartition("failed: ")[2].rstrip(" .")
        raise UserError(
            f"the model uses ONNX opset {version} and cannot be converted to {goal} ({reason}): "
            f"export it with an opset from {checks.OLDEST_OPSET} to {checks.NEWEST_OPSET}"
        ) from error
