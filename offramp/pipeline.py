"""From a network to a Plan: one list of steps, whose differences between targets are data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offramp.compiler import boards, targets
from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program
from offramp.compiler.ir.cfg import reach_probabilities
from offramp.observer import Observer
from offramp.options import Options
from offramp.passes.base import Pipeline, Timing

if TYPE_CHECKING:
    from offramp.backends.tvm.lower import Lowered
    from offramp.data import Dataset
    from offramp.passes.patches import Choice

RANGE_SAMPLES = 512
"""Samples from which the ranges of activations are taken; more change nothing."""

JUDGES = 1000
"""Samples that say what weights of four bits cost: with these, a tenth of a point is one answer."""


def read_model(model: Any, example_inputs: tuple[Any, ...] | None = None) -> Program:
    """A Program from whatever a network is held in.

    Args:
        model: a Program; a path, the bytes of a file or a `ModelProto` of ONNX; or a torch
            `nn.Module`, `ExportedProgram` or `fx.GraphModule`.
        example_inputs: positional inputs of a torch module, to export it with.

    Raises:
        UserError: the model is damaged or of another kind, or a weight is not a number.
        UnsupportedError: it uses something that offramp cannot compile.
    """
    program = _program(model, example_inputs)
    _check_weights(program)
    _check_scales(program)
    return program


def _program(model: Any, example_inputs: tuple[Any, ...] | None) -> Program:
    if isinstance(model, Program):
        return model
    if isinstance(model, str | Path | bytes) or type(model).__name__ == "ModelProto":
        from offramp.compiler.frontends.onnx import from_onnx

        return from_onnx(model)
    if type(model).__module__.partition(".")[0] == "torch" or hasattr(model, "state_dict"):
        from offramp.compiler.frontends.torch import from_torch

        return from_torch(model, example_inputs)
    raise UserError(
        f"cannot compile a {type(model).__name__}: expected an ONNX file, a torch module or a "
        "Program"
    )


def _check_weights(program: Program) -> None:
    """Infinities pass, since masks use them, and so does a NaN that is a constant by itself."""
    for block in program.blocks.values():
        for name, value in block.graph.initializers.items():
            tensor = value.const_value
            if tensor is None or not tensor.dtype.is_floating_point() or tensor.size < 2:
                continue
            bad = int(np.count_nonzero(np.isnan(tensor.numpy())))
            if bad:
                raise UserError(
                    f"{bad} of the {tensor.size} elements of weight {name!r} are NaN: no answer of "
                    "this network would mean anything; export it again from a sound checkpoint"
                )


def _check_scales(program: Program) -> None:
    """Every (de)quantisation by constant scales: they are finite and positive."""
    for block in program.blocks.values():
        for node in block.graph:
            scale = node.inputs[1] if len(node.inputs) > 1 else None
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or scale is None:
                continue
            if scale.const_value is None:
                continue
            values = scale.const_value.numpy().astype(np.float64).ravel()
            wrong = values[~(np.isfinite(values) & (values > 0))]
            if wrong.size:
                raise UserError(
                    f"{node.op_type} {node.name!r} has a scale of {wrong[0]:g}: expected a finite "
                    "number above zero; quantise the model again"
                )


def simplify(program: Program, options: Options, observer: Observer) -> Program:
    """Clean the Program up: what later steps need not see twice or at all."""

    from offramp.passes.simplify import simplification

    def timed(timing: Timing) -> None:
        observer.seconds[f"  {timing.name}"] = timing.seconds

    passes = simplification()
    names = [pass_.name for pass_ in passes]
    if options.print_after is not None and options.print_after not in names:
        raise UserError(
            f"there is no pass {options.print_after!r} to print after: expected one of "
            f"{', '.join(names)}"
        )
    show: Callable[[str], None] = observer.dump
    return Pipeline(passes, options.print_after, show, timed)(program)


def quantize(
    program: Program,
    calibration: Dataset,
    train: Dataset | None,
    options: Options,
    observer: Observer,
) -> Program:
    """The network on integers.

    Ranges are taken from training samples; without any, from those calibration samples that train
    heads and certify nothing, or from all of them where there will be no exits.

    Raises:
        UserError: the network cannot be quantised, or a tensor is not finite on these samples.
    """
    from offramp.passes.exits.split import training_rows
    from offramp.passes.quantize.insert import Quantize
    from offramp.passes.quantize.mixed import Judge, choose_bits

    source = calibration if train is None else train
    rows = np.random.default_rng(options.seed).permutation(len(source))
    if train is None and options.exits:
        rows = training_rows(len(source), options.seed)
    quantise = Quantize("int8", source.take(rows[:RANGE_SAMPLES]).inputs, seed=options.seed)
    if options.quantize == "mixed":
        judges = source.take(rows[:JUDGES])
        judge = Judge(judges.inputs, judges.labels, options.quantize_drop)
        newer = _knowing_wide(program, observer)
        quantise = choose_bits(newer, quantise, judge, observer.note)
        program = newer if quantise.wide else program
    return quantise(program)


def _knowing_wide(program: Program, observer: Observer) -> Program:
    """The program in an operator set with integers of 16 bits, or as it is where it cannot be."""
    from offramp.passes.quantize.opset import WIDE_OPSET, at_least

    try:
        return at_least(program, WIDE_OPSET)
    except UserError as error:
        observer.note(f"16 bits are left out: {error}")
        return program


def read_integers(
    program: Program, *datasets: Dataset | None
) -> tuple[Program, Dataset | None, Dataset | None]:
    """A quantised network that reads signed bytes where it can, and its samples as such."""
    from offramp.passes.quantize.inputs import IntegerInputs, input_scales

    scales = input_scales(program)
    calibration, train = (
        None
        if samples is None
        else samples.with_inputs({n: s.quantised(samples.inputs[n]) for n, s in scales.items()})
        for samples in datasets
    )
    return IntegerInputs()(program), calibration, train


def choose_patches(program: Program, options: Options, observer: Observer) -> Choice | None:
    """The bands of rows in which the first layers need the least memory, if any help.

    Raises:
        UnsupportedError: an operator that cannot be compiled.
    """
    from offramp.passes import patches

    def arena(tried: Program) -> int:
        return _planned(tried, options).plan.memory.peak

    return patches.choose_patches(
        program,
        options.patches / 100,
        arena,
        progress=lambda done: observer.note(f"planning memory, {100 * done:.0f} %"),
    )


def lower(program: Program, options: Options) -> Lowered:
    """Kernels and a Plan with addresses for the target.

    Raises:
        UserError: the board, if one was asked for, does not hold it.
        UnsupportedError: an operator that cannot be compiled; named, with its node.
    """
    from offramp.passes.memory.banks import spread
    from offramp.passes.memory.fit import check_fit

    lowered = _planned(program, options)
    if options.board is None:
        return lowered
    board, reach = boards.get(options.board), reach_probabilities(program)
    copies = options.optimize == "speed"
    planned = spread(lowered.plan, board, reach, copy_weights=copies)
    check_fit(planned, board)
    return replace(lowered, plan=planned)


def _planned(program: Program, options: Options) -> Lowered:
    """Kernels, and a Plan with one array for all memory."""
    from offramp.backends.tvm import lower as tvm_lower
    from offramp.passes.memory.plan import plan_memory

    lowered = tvm_lower.lower(
        program,
        targets.get(options.target),
        exact=options.exact,
        wide=options.optimize == "speed",
    )
    return replace(lowered, plan=plan_memory(lowered.plan))
