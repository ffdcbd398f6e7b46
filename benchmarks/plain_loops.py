"""An int8 network as plain loops in C: the yardstick for fast integer kernels.

Every operator is one loop nest over channels-last bytes, with all extents as constants, 32-bit sums
and the requantisation of TFLite's reference kernels: what one writes down first, and leaves to the
compiler. Memory is planned as usual, and what is no integer operator (conversions, softmax) stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from offramp.backends.base import Kernels, LoweredProgram
from offramp.backends.tvm.anchors import Anchor
from offramp.backends.tvm.grouping import group
from offramp.backends.tvm.integer.matching import IntegerKernel
from offramp.backends.tvm.integer.scaling import exact
from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.ir import Program
from offramp.compiler.ir.clone import clone_block
from offramp.compiler.plan import Buffer, KernelCall, Plan, Storage
from offramp.passes.layout import rules
from offramp.passes.layout.channels_last import ChannelsLast
from offramp.passes.layout.move_integers import MoveIntegers
from offramp.passes.memory import plan_memory

Constant = npt.NDArray[np.generic]

REQUANTISE = """\
/* SaturatingRoundingDoublingHighMul and RoundingDivideByPOT of TFLite. scale: multiplier, shift to
 * the right, 1 if there is one. */
static inline int32_t requantise(int32_t sum, const int32_t *scale) {
  const int32_t high = (int32_t)(((int64_t)sum * scale[0] + 0x40000000) >> 31);
  return (high + ((1 << scale[1]) >> 1) + (scale[2] & (high >> 31))) >> scale[1];
}
static inline int8_t clamp(int32_t value, int32_t low, int32_t high) {
  return (int8_t)(value < low ? low : value > high ? high : value);
}
"""

CONVOLUTION = """\
void {name}(int8_t *in, int8_t *w, int32_t *scales, int8_t *out) {{
  for (int b = 0; b < {batch}; ++b)
    for (int y = 0; y < {rows.out}; ++y)
      for (int x = 0; x < {columns.out}; ++x)
        for (int f = 0; f < {filters}; ++f) {{
          int32_t sum = scales[4 * f];
          for (int r = 0; r < {rows.taps}; ++r) {{
            const int iy = y * {rows.stride} - {rows.pad} + r * {rows.dilation};
            if (iy < 0 || iy >= {rows.size}) continue;
            for (int t = 0; t < {columns.taps}; ++t) {{
              const int ix = x * {columns.stride} - {columns.pad} + t * {columns.dilation};
              if (ix < 0 || ix >= {columns.size}) continue;
{product}            }}
          }}
          sum = requantise(sum * {left}, scales + 4 * f + 1) + {zero};
          out[((b * {rows.out} + y) * {columns.out} + x) * {filters} + f] =
              clamp(sum, {low}, {high});
        }}
}}
"""

ALL_CHANNELS = """\
              for (int c = 0; c < {channels}; ++c)
                sum += (in[((b * {rows.size} + iy) * {columns.size} + ix) * {channels} + c] -
                        {input_zero}) *
                       w[((f * {rows.taps} + r) * {columns.taps} + t) * {channels} + c];
"""

ONE_CHANNEL = """\
              sum += (in[((b * {rows.size} + iy) * {columns.size} + ix) * {channels} + f] -
                      {input_zero}) *
                     w[(r * {columns.taps} + t) * {channels} + f];
"""

MEAN = """\
void {name}(int8_t *in, int8_t *out) {{
  for (int b = 0; b < {batch}; ++b)
    for (int y = 0; y < {rows.out}; ++y)
      for (int x = 0; x < {columns.out}; ++x)
        for (int c = 0; c < {channels}; ++c) {{
          int32_t sum = 0;
          for (int r = 0; r < {rows.taps}; ++r)
            for (int t = 0; t < {columns.taps}; ++t)
              sum += in[((b * {rows.size} + y * {rows.stride} + r) * {columns.size} +
                         x * {columns.stride} + t) * {channels} + c];
          sum = (sum + (sum > 0 ? {taps} / 2 : -({taps} / 2))) / {taps};
          out[((b * {rows.out} + y) * {columns.out} + x) * {channels} + c] =
              clamp(sum, {low}, {high});
        }}
}}
"""

SUM = """\
void {name}(int8_t *left, int8_t *right, int32_t *scales, int8_t *out) {{
  for (int i = 0; i < {count}; ++i) {{
    const int32_t a = requantise((left[i] - {zeros[0]}) * (1 << 20), scales);
    const int32_t b = requantise((right[i] - {zeros[1]}) * (1 << 20), scales + 3);
    out[i] = clamp(requantise(a + b, scales + 6) + {zero}, {low}, {high});
  }}
}}
"""


@dataclass(frozen=True)
class PlainKernels:
    """The kernels of a library, some of them replaced by plain loops."""

    library: Kernels
    loops: dict[str, str]

    def prototypes(self) -> str:
        """C declarations of all kernels, one a line."""
        lines = self.library.prototypes().splitlines()
        kept = [line for line in lines if not any(f" {name}(" in line for name in self.loops)]
        own = [source.partition(" {")[0] + ";" for source in self.loops.values()]
        return "\n".join([*kept, *own]) + "\n"

    def to_c(self) -> str:
        """The library's functions under other names where a plain one takes over."""
        renamed = "".join(f"#define {name} unused_{name}\n" for name in self.loops)
        restored = "".join(f"#undef {name}\n" for name in self.loops)
        return renamed + self.library.to_c() + restored + REQUANTISE + "".join(self.loops.values())

    def to_object(self, path: object) -> None:
        """No target that is measured here wants an object."""
        raise NotImplementedError


@dataclass(frozen=True)
class PlainProgram:
    """A lowered program over plain kernels."""

    plan: Plan
    kernels: PlainKernels


FAMILY = "riscv"
"""Microkernels of which each computes one operator, with `--exact` sums of their own."""


def plain(program: Program, target: str) -> LoweredProgram:
    """A network of one block with its integer operators as plain loops, memory planned."""
    lowered = lower(program, replace(targets.get(target), microkernels=FAMILY), exact=True)
    (block,), buffers = lowered.plan.blocks, dict(lowered.plan.buffers)
    operators = {f"{block.name}.{op.result.name}": op for op in _operators(program)}
    loops: dict[str, str] = {}
    calls: list[KernelCall] = []
    for call in block.calls:
        operator = operators.get(call.arguments[-1])
        if operator is None:
            calls.append(call)
            continue
        loops[call.kernel], constants = _loop(call.kernel, operator)
        *sources, output = (a for a in call.arguments if lowered.plan.buffers[a].data is None)
        own = [f"{output}.{position}" for position in range(len(constants))]
        for name, data in zip(own, constants, strict=True):
            buffers[name] = Buffer(name, data.shape, data.dtype.name, Storage.CONSTANT, data)
        arguments = (*sources, *own, output)
        calls.append(replace(call, arguments=arguments, in_place=(), workspace=0))
    read = {name for call in calls for name in call.arguments}
    buffers = {n: b for n, b in buffers.items() if b.data is None or n in read}
    plan = replace(lowered.plan, blocks=(replace(block, calls=tuple(calls)),), buffers=buffers)
    return PlainProgram(plan_memory(plan), PlainKernels(lowered.kernels, loops))


def _operators(program: Program) -> list[IntegerKernel]:
    """The integer operators of the only block."""
    moved = MoveIntegers()(ChannelsLast()(program))
    (block,) = moved.blocks.values()
    parts = group(clone_block(block).graph, integers=FAMILY, exact=True)
    return [part for part in parts if isinstance(part, IntegerKernel)]


def _loop(name: str, kernel: IntegerKernel) -> tuple[str, list[Constant]]:
    """The C function of an operator, and its constants in order."""
    ends: dict[str, object] = {
        "name": name,
        "low": kernel.bounds[0],
        "high": kernel.bounds[1],
        "zero": kernel.output.zero,
    }
    if kernel.anchor is None:
        return _sum(kernel, ends)
    anchor, window = kernel.anchor, kernel.anchor.window
    ends |= {"rows": window.rows, "columns": window.columns, "batch": window.batch}
    ends |= {"channels": anchor.channels, "filters": anchor.filters, "taps": window.taps}
    if kernel.weights is None:
        return MEAN.format(**ends), []
    return _convolution(kernel, anchor, ends)


def _convolution(
    kernel: IntegerKernel, anchor: Anchor, ends: dict[str, object]
) -> tuple[str, list[Constant]]:
    real = kernel.inputs[0].scale * kernel.scales
    bias = np.zeros(anchor.filters) if anchor.bias is None else np.rint(anchor.bias / real)
    factors = exact(real / kernel.output.scale, 0)
    if kernel.weights is None or factors is None:
        raise AssertionError("a convolution without weights or with factors of its own kind")
    order, product = (0, 2, 3, 1), ALL_CHANNELS
    if anchor.groups > 1:
        order, product = (1, 2, 3, 0), ONE_CHANNEL
    weights = np.ascontiguousarray(kernel.weights.transpose(order)).reshape(-1)
    ends |= {"input_zero": kernel.inputs[0].zero, "left": 1 << factors.shift}
    text = CONVOLUTION.format(product=product.format(**ends), **ends)
    return text, [weights, factors.table(bias.astype(np.int32))]


def _sum(kernel: IntegerKernel, ends: dict[str, object]) -> tuple[str, list[Constant]]:
    scales = [addend.scale for addend in kernel.inputs]
    twice = 2.0 * max(scales)
    real = [*(scale / twice for scale in scales), twice / (2.0**20 * kernel.output.scale)]
    factors = exact(np.array(real), 2**30)
    if factors is None:
        raise AssertionError("a sum whose factors TFLite could not write down")
    zeros = [addend.zero for addend in kernel.inputs]
    count = prod(rules.static_shape(kernel.result))
    return SUM.format(count=count, zeros=zeros, **ends), [factors.columns.ravel()]
