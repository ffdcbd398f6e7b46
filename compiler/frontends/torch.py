"""Read a torch model into a Program: torch.export captures it, torch.onnx translates it.

One path for `nn.Module`, `torch.fx.GraphModule` and `torch.export.ExportedProgram`; `torch.cond`
becomes a Branch.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offramp.compiler.errors import UserError
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program

Examples = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


def from_torch(
    model: Any,
    example_inputs: Examples | None = None,
    *,
    name: str | None = None,
    batched: bool | None = None,
) -> Program:
    """The Program of a torch model in evaluation mode.

    A module is captured with the first sample of the example inputs, so the batch size that they
    have does not matter; an ExportedProgram keeps what it was exported with, and its batch
    dimension, free or fixed, becomes 1.

    Args:
        model: an `nn.Module`, a `torch.fx.GraphModule` or a `torch.export.ExportedProgram`. Modes
            and weights of a module are left as they are.
        example_inputs: a tensor, the positional arguments, or arguments by name. Not needed for
            an ExportedProgram.
        name: the Program's name; default: the class of the model.
        batched: whether the leading axis of the inputs counts samples; default: it does if all
            inputs agree in it.

    Raises:
        UserError: the model is of another kind, examples are missing, or torch cannot capture or
            translate the model; says what torch found and what to do.
        UnsupportedError: the model uses an operator or a shape that offramp cannot compile.
    """
    if isinstance(model, torch.export.ExportedProgram):
        exported, default_name = model, "model"
    elif isinstance(model, torch.jit.ScriptModule) or not isinstance(model, nn.Module):
        raise UserError(
            "expected a torch.nn.Module, torch.fx.GraphModule or torch.export.ExportedProgram, "
            f"found {type(model).__name__}; script modules cannot be read, pass the module that "
            "they were made from"
        )
    else:
        exported = _capture(model, *_first_sample(example_inputs, batched))
        default_name = type(model).__name__
    return from_onnx(_translate(exported), name=name or default_name, batched=batched)


def _first_sample(
    examples: Examples | None, batched: bool | None
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Positional and named arguments, with a batch axis cut to one sample."""
    if examples is None:
        raise UserError("a torch module needs example_inputs: the tensors of one call")
    positional, named = _arguments(examples)
    tensors: list[Any] = [*positional, *named.values()]
    strangers = [type(t).__name__ for t in tensors if not isinstance(t, Tensor)]
    if strangers or not tensors:
        raise UserError(f"example_inputs: expected torch tensors, found {strangers or 'none'}")
    leading = {tensor.shape[0] if tensor.ndim else None for tensor in tensors}
    if batched is None:
        batched = len(leading) == 1 and None not in leading
    if not batched:
        return positional, named
    return tuple(t[:1] for t in positional), {key: t[:1] for key, t in named.items()}


def _arguments(examples: Examples) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    if isinstance(examples, Tensor):
        return (examples,), {}
    if isinstance(examples, Mapping):
        return (), dict(examples)
    return tuple(examples), {}


def _capture(
    model: nn.Module, positional: tuple[Tensor, ...], named: dict[str, Tensor]
) -> torch.export.ExportedProgram:
    try:
        with _evaluating(model), _quiet():
            return torch.export.export(model, positional, named, strict=False)
    except Exception as error:  # torch.export raises whatever the model or its own passes raise
        shapes = [list(t.shape) for t in (*positional, *named.values())]
        raise UserError(
            f"torch.export cannot capture {type(model).__name__} with inputs of shape {shapes}: "
            f"{_first_line(error)}. Try torch.export.export(model, example_inputs) alone; write "
            "decisions that depend on the data with torch.cond; for inputs without a batch axis "
            "pass batched=False"
        ) from error


def _translate(exported: torch.export.ExportedProgram) -> Any:
    """The ONNX ModelProto; outputs are called `output`, or `output_0`, `output_1`, ..."""
    count = len(exported.graph_signature.user_outputs)
    names = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    try:
        with _quiet():
            program = torch.onnx.export(
                exported, dynamo=True, verbose=False, external_data=False, output_names=names
            )
    except Exception as error:  # the exporter wraps failures of any kind
        raise UserError(
            f"torch.onnx cannot translate the model: {_first_line(_root(error))}. Replace the "
            "operator that it names by standard ones, or pass an ONNX file"
        ) from error
    if program is None:
        raise UserError("torch.onnx returned no model; pass an ONNX file instead")
    return program.model_proto


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    """All of `model` in evaluation mode, and back to the modes it had."""
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """The exporter's progress, log lines and warnings stay inside."""
    disabled = logging.root.manager.disable
    sink = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
