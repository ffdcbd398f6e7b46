"""Post-training quantisation: a float network becomes one with 8-bit activations and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program, Return
from offramp.compiler.ir.clone import clone_block
from offramp.passes.base import Pass, PassResult
from offramp.passes.quantize.observe import Seen, observe
from offramp.passes.quantize.opset import WIDE_OPSET
from offramp.passes.quantize.ranges import METHODS, Affine, activation, wide
from offramp.passes.quantize.sites import WEIGHTED, Site, given_scale, sites
from offramp.passes.quantize.weights import quantised_layer
from offramp.passes.quantize.writer import Writer

PRECISIONS = ("int8",)

NARROW = 4
"""Bits of weights where few are enough."""

FIRST_OPSET = 13
"""The first operator set whose (de)quantisation knows scales by channel."""


@dataclass(frozen=True)
class Quantize(Pass):
    """Compute convolutions, dense layers, pools, sums and functions of these on 8-bit integers.

    The result stays standard ONNX in QDQ form: activations have one scale and zero point a tensor,
    weights are symmetric with one scale a filter, biases are 32-bit. Everything else, and what the
    network reads and answers, stays float32; what is dequantised already keeps its scale. Run it
    before exits go in.

    precision: "int8".
    calibration: samples by input name, `[N, ...]`, from which ranges are taken.
    ranges: "mse" (least squared error), "percentile" or "minmax".
    correct_bias: let biases take up the mean error of rounded weights.
    seed: of the values that ranges are judged by.
    narrow: names of the layers (`Site.name`) whose weights take four bits; `mixed` chooses them.
    wide: names of the tensors that take 16 bits, `mixed` chooses them, too; a maximum is as wide as
        what it reads.

    Raises:
        UserError: an option is unknown, there are no samples or they do not fit, a tensor is not
            finite on them, the network has control flow or is quantised already, or its operator
            set is below 13, or below 21 with 16 bits.
    """

    precision: str = "int8"
    calibration: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)
    ranges: str = "mse"
    correct_bias: bool = True
    seed: int = 0
    narrow: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for what, value, known in (
            ("precision", self.precision, PRECISIONS),
            ("way to choose ranges", self.ranges, METHODS),
        ):
            if value not in known:
                raise UserError(f"unknown {what} {value!r}: expected one of {', '.join(known)}")

    def call(self, program: Program) -> PassResult:
        """Quantise what integers can compute; a network without such operators stays as it is."""
        self._check(program)
        seen = watch(program, self.calibration, self.seed)
        if not seen:
            return PassResult(program, modified=False)
        return PassResult(self.with_ranges(program, seen), modified=True)

    def with_ranges(self, program: Program, seen: Mapping[str, Seen]) -> Program:
        """The same from what was seen before, see `watch`."""
        blocks = {name: clone_block(block) for name, block in program.blocks.items()}
        own = replace(program, blocks=blocks)
        found = sites(own.entry.graph)
        writer = Writer(own.entry.graph)
        tensors = dict.fromkeys(value for site in found for value in (*site.reads, site.writes))
        scales = {v: given_scale(v) or self._affine(v, seen[str(v.name)]) for v in tensors}
        scales |= {s.writes: scales[s.reads[0]] for s in found if s.keeps_scale}
        for site in found:
            if site.node.op_type in WEIGHTED:
                self._constants(writer, site, seen, scales)
        for value, scale in scales.items():
            if given_scale(value) is None:
                writer.round_trip(value, scale)
        writer.drop_unread()
        return own

    @staticmethod
    def knows_wide(program: Program) -> bool:
        """Whether the operator set of a program has integers of 16 bits."""
        return program.opset_imports.get("", 0) >= WIDE_OPSET

    def _affine(self, value: ir.Value, seen: Seen) -> Affine:
        if value.name in self.wide:
            return wide(seen.low, seen.high)
        return activation(seen.low, seen.high, seen.values, self.ranges)

    def _constants(
        self,
        writer: Writer,
        site: Site,
        seen: Mapping[str, Seen],
        scales: Mapping[ir.Value, Affine],
    ) -> None:
        source = site.node.inputs[0]
        means = seen[str(source.name)].means if self.correct_bias and source is not None else None
        bits = NARROW if site.name in self.narrow else 8
        layer = quantised_layer(site.node, self.ranges, means, bits)
        writer.constants(site.node, layer, scales[site.reads[0]].scale)

    def _check(self, program: Program) -> None:
        if len(program.blocks) > 1 or not isinstance(program.entry.terminator, Return):
            raise UserError(
                f"cannot quantise {program.name!r}: it has control flow; quantise the network "
                "before exits go in"
            )
        if any(node.op_type == "QuantizeLinear" for node in program.entry.graph):
            raise UserError(
                f"cannot quantise {program.name!r}: it is quantised already; compile it as it is"
            )
        opset = program.opset_imports.get("", 0)
        if opset < FIRST_OPSET:
            raise UserError(
                f"cannot quantise {program.name!r}: it uses operator set {opset}, and scales by "
                f"channel need at least {FIRST_OPSET}; export the model again"
            )
        if self.wide and not self.knows_wide(program):
            raise UserError(
                f"cannot quantise {program.name!r} to 16 bits: it uses operator set {opset}, and "
                f"they need at least {WIDE_OPSET}; see `passes.quantize.opset.at_least`"
            )
        if not self.calibration or not all(len(x) for x in self.calibration.values()):
            raise UserError(
                "cannot quantise without calibration samples: ranges of activations are taken from "
                f"them; expected arrays for {', '.join(str(v.name) for v in program.inputs)}"
            )


def watch(
    program: Program, calibration: Mapping[str, npt.NDArray[Any]], seed: int = 0
) -> dict[str, Seen]:
    """What all tensors that are to be quantised, or feed layers that are, look like, by name.

    Raises:
        UserError: the samples do not fit, or a tensor is not finite on them.
    """
    found = sites(program.entry.graph)
    tensors = [value for site in found for value in (*site.reads, site.writes)]
    layers = [site.node for site in found if site.node.op_type in WEIGHTED]
    inputs = [value for node in layers if (value := node.inputs[0]) is not None]
    seen = observe(program, list(dict.fromkeys([*tensors, *inputs])), calibration, seed)
    return {str(value.name): what for value, what in seen.items()}
