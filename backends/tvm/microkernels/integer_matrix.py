"""Tiles of integer convolutions and dense layers, for Arm cores with 16-bit dual multiply.

    out[p * step + f] = clamp(zero + round(m[f] * (bias[f] + sum over k of x[p, k] * w[f, k])))

or, with a residual r, clamp((that * left + r[p * step + f] * right + offset) >> sum_shift).

`smlad` does two multiply-accumulates on 16-bit pairs. Inputs were widened beforehand (see
`integer_gather`) and lie so that one load-multiple fetches a register of each pixel; four 8-bit
weights take one load and two `sxtb16`, which leave the pairs (0, 2) and (1, 3): inputs are paired
in the same way, so nothing is shuffled. Four outputs and four reduction steps take 13 instructions
for 16 multiply-accumulates. `smmlar` scales a sum, rounds it and adds the zero point; exact tiles
round twice, to 31 bits and to the result, as TFLite's reference kernels do.

Wide weights lie in flash as such pairs: nothing is unpacked, for twice the bytes. Weights of four
bits lie two a byte, the first four of eight steps in the upper halves. There they
count 16 times, and so do the sums and what they start from, until they are complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.backends.tvm.integer.scaling import Scaling, whole_range
from offramp.backends.tvm.microkernels.assembly import quoted
from offramp.backends.tvm.microkernels.integer_tile import definition

WIDEST = 4
"""Outputs of a full tile: as many sums as fit beside their inputs."""

DSP_GUARD = "#if defined(__thumb2__) && defined(__ARM_FEATURE_SIMD32)"
"""Thumb-2 with the 16-bit dual multiplies of Cortex-M4, M7 and their successors."""

_UPPER = 0xF0F0F0F0
"""The upper halves of four bytes."""

_SUMS = ("r2", "r3", "r4", "r5")
_INPUTS = ("r6", "r7", "r8", "r9")


@dataclass(frozen=True)
class IntegerTile:
    """Structure of a microkernel.

    pixels, filters: outputs that are summed side by side; one of the two is 1. unroll: groups of
    four reduction steps (narrow: eight) in a round; divides their number. scaling: of the sums.
    sum_shift: of the sum with a residual; None without one. What is added to it is bounded by
    [-128, 127]. bits: of the weights as they are stored, 4, 8 or 16.
    """

    pixels: int
    filters: int
    unroll: int
    scaling: Scaling
    sum_shift: int | None = None
    bits: int = 8

    @property
    def name(self) -> str:
        """The C function's name."""
        bits = "" if self.bits == 8 else f"_{self.bits}bits"
        tile = f"{self.pixels}x{self.filters}_{self.unroll}{bits}"
        added = "" if self.sum_shift is None else f"_plus{self.sum_shift}"
        return f"integer_tile_{tile}_{self.scaling.name}{added}"

    @property
    def outputs(self) -> int:
        """Sums of a tile."""
        return self.pixels * self.filters

    def source(self) -> str:
        """The C definition: assembly for Arm with dual multiplies, loops elsewhere."""
        return definition(
            name=self.name,
            guard=DSP_GUARD,
            assembly=quoted(self._assembly()),
            tile=(self.pixels, self.filters),
            bits=self.bits,
            scaling=self.scaling,
            sum_shift=self.sum_shift,
        )

    def _assembly(self) -> Iterator[str]:
        """Registers: r0 task, later the counter; r1 inputs; r12 weights; r10, r11, lr scratch."""
        yield "push {r0, r4-r11, lr}"
        yield f"ldr r12, [r0, #{_WEIGHTS}]"
        yield "1:"
        yield from self._start()
        yield "2:"
        for _ in range(self.unroll):
            yield from self._pixels() if self.filters == 1 else self._filters()
        yield "subs r0, r0, #1"
        yield "bne 2b"
        yield "ldr r0, [sp]"
        yield from self._finish()
        yield f"ldr r10, [r0, #{_BLOCKS}]"
        yield "subs r10, r10, #1"
        yield f"str r10, [r0, #{_BLOCKS}]"
        yield "bne 1b"
        yield "pop {r0, r4-r11, pc}"

    def _start(self) -> Iterator[str]:
        yield f"ldr r10, [r0, #{_SCALES}]"
        for i in range(self.filters):
            yield f"ldr {_SUMS[i]}, [r10, #{4 * self.scaling.words * i}]"
        for i in range(1, self.pixels):
            yield f"mov {_SUMS[i]}, {_SUMS[0]}"
        yield f"ldr r1, [r0, #{_INPUT}]"
        yield f"ldr r0, [r0, #{_ROUNDS}]"

    def _pixels(self) -> Iterator[str]:
        """Four or eight steps of one filter for several pixels."""
        if self.bits == 16:
            yield "ldrd r10, r11, [r12], #8"
            yield from self._two_steps("r10")
            yield from self._two_steps("r11")
            return
        yield "ldr r10, [r12], #4"
        if self.bits == 8:
            yield from self._four_steps("r10")
            return
        yield f"and lr, r10, #{_UPPER}"
        yield from self._four_steps("lr")
        yield "lsl r10, r10, #4"
        yield f"and lr, r10, #{_UPPER}"
        yield from self._four_steps("lr")

    def _four_steps(self, weights: str) -> Iterator[str]:
        for rotated in ("", ", ror #8"):
            yield f"sxtb16 r11, {weights}{rotated}"
            yield from self._two_steps("r11")

    def _two_steps(self, pair: str) -> Iterator[str]:
        inputs = _INPUTS[: self.pixels]
        yield f"ldmia r1!, {{{', '.join(inputs)}}}"
        for total, item in zip(_SUMS, inputs, strict=False):
            yield f"smlad {total}, {item}, {pair}, {total}"

    def _filters(self) -> Iterator[str]:
        """Four or eight steps of several filters for one pixel."""
        if self.bits == 16:
            yield "ldmia r1!, {r6, r7}"
            for total in _SUMS[: self.filters]:
                yield "ldrd r8, r9, [r12], #8"
                yield f"smlad {total}, r6, r8, {total}"
                yield f"smlad {total}, r7, r9, {total}"
            return
        weights = ("r8", "r9", "r10", "r11")[: self.filters]
        yield f"ldmia r12!, {{{', '.join(weights)}}}"
        if self.bits == 4:
            yield from self._narrow_filters(weights)
            return
        yield "ldmia r1!, {r6, r7}"
        for total, weight in zip(_SUMS, weights, strict=False):
            yield f"sxtb16 lr, {weight}"
            yield f"sxtb16 {weight}, {weight}, ror #8"
            yield f"smlad {total}, r6, lr, {total}"
            yield f"smlad {total}, r7, {weight}, {total}"

    def _narrow_filters(self, weights: tuple[str, ...]) -> Iterator[str]:
        for half in (0, 1):
            yield "ldmia r1!, {r6, r7}"
            for total, weight in zip(_SUMS, weights, strict=False):
                for item, rotated in (("r6", ""), ("r7", ", ror #8")):
                    yield f"and lr, {weight}, #{_UPPER}"
                    yield f"sxtb16 lr, lr{rotated}"
                    yield f"smlad {total}, {item}, lr, {total}"
                if half == 0:
                    yield f"lsl {weight}, {weight}, #4"

    def _finish(self) -> Iterator[str]:
        """Scale, round, clamp and store the sums; step on to the next filters."""
        sums = _SUMS[: self.outputs]
        yield f"ldr lr, [r0, #{_SCALES}]"
        yield f"ldr r6, [r0, #{_ZERO}]"
        for i, total in enumerate(sums):
            if i == 0 or self.filters > 1:
                yield from self._load_scales(4 * self.scaling.words * i)
            if self.bits == 4:
                yield f"asr {total}, {total}, #4"
            if self.scaling.shift:
                yield f"lsl {total}, {total}, #{self.scaling.shift}"
            yield from self._scale(total)
            yield f"ssat {total}, #{self.scaling.bits}, {total}"
            if self.sum_shift is None:
                yield from bounded(total, self.scaling)
        yield f"add lr, lr, #{4 * self.scaling.words * self.filters}"
        yield f"str lr, [r0, #{_SCALES}]"
        if self.sum_shift is not None:
            yield from self._added(sums, self.sum_shift)
        yield f"ldr r10, [r0, #{_OUTPUT}]"
        item = self.scaling.bits // 8
        if self.filters > 1:
            yield from (f"{self._store} {total}, [r10], #{item}" for total in sums)
        else:
            yield from self._stored(sums)
            yield f"add r10, r10, #{item}"
        yield f"str r10, [r0, #{_OUTPUT}]"

    def _load_scales(self, offset: int) -> Iterator[str]:
        """Multiplier to r11; exact: shift to r7, half a unit to r1, mask of the sign to r10."""
        yield f"ldr r11, [lr, #{offset + 4}]"
        if self.scaling.exact:
            yield f"ldr r7, [lr, #{offset + 8}]"
            yield f"ldr r10, [lr, #{offset + 12}]"
            yield "mov r1, #1"
            yield "lsl r1, r1, r7"
            yield "lsr r1, r1, #1"

    def _scale(self, total: str) -> Iterator[str]:
        if not self.scaling.exact:
            yield f"smmlar {total}, {total}, r11, r6"
            return
        yield f"smull r8, r9, {total}, r11"
        yield "adds r8, r8, #0x40000000"
        yield "adc r9, r9, #0"
        yield "lsl r9, r9, #1"
        yield f"orr {total}, r9, r8, lsr #31"
        yield f"and r9, r10, {total}, asr #31"
        yield f"add {total}, {total}, r9"
        yield f"add {total}, {total}, r1"
        yield f"asr {total}, {total}, r7"
        yield f"add {total}, {total}, r6"

    @property
    def _store(self) -> str:
        return "strb" if self.scaling.bits == 8 else "strh"

    def _stored(self, sums: tuple[str, ...]) -> Iterator[str]:
        """One filter of neighbouring pixels, `step` bytes apart."""
        if len(sums) > 1:
            yield f"ldr r11, [r0, #{_STEP}]"
        for i, total in enumerate(sums):
            if i == 3:
                yield "add r11, r11, r11, lsl #1"
            yield f"{self._store} {total}, {_place('r10', i)}"

    def _added(self, sums: tuple[str, ...], shift: int) -> Iterator[str]:
        """The sum with the residual, which may be overwritten by the outputs."""
        yield f"ldr r1, [r0, #{_RESIDUAL}]"
        yield f"ldr r11, [r0, #{_STEP}]"
        for register, field in (("r7", _LEFT), ("r8", _RIGHT), ("r9", _OFFSET)):
            yield f"ldr {register}, [r0, #{field}]"
        for i, total in enumerate(sums):
            if i == 3:
                yield "add r11, r11, r11, lsl #1"
            yield f"ldrsb lr, {_place('r1', i)}"
            yield "mla lr, lr, r8, r9"
            yield f"mla {total}, {total}, r7, lr"
            yield f"ssat {total}, #8, {total}, asr #{shift}"
            yield from bounded(total, self.scaling)
        yield "add r1, r1, #1"
        yield f"str r1, [r0, #{_RESIDUAL}]"


def bounded(total: str, scaling: Scaling) -> Iterator[str]:
    """Clamp a register that holds a signed integer of as many bits to narrower bounds.

    Those of 16 bits do not all fit into instructions, and go through r8.
    """
    ends = zip((scaling.low, scaling.high), whole_range(scaling.bits), ("lt", "gt"), strict=True)
    for bound, default, condition in ends:
        if bound == default:
            continue
        end = f"#{bound}"
        if scaling.bits > 8 and not 0 <= bound <= 255:
            yield f"movw r8, #{bound & 0xFFFF}"
            yield "sxth r8, r8"
            end = "r8"
        yield f"cmp {total}, {end}"
        yield f"it {condition}"
        yield f"mov{condition} {total}, {end}"


def _place(base: str, pixel: int) -> str:
    """An address `pixel` steps after `base`; r11 is the step, or three steps for the last."""
    return (f"[{base}]", f"[{base}, r11]", f"[{base}, r11, lsl #1]", f"[{base}, r11]")[pixel]


_INPUT, _WEIGHTS, _SCALES, _OUTPUT, _STEP, _ROUNDS, _BLOCKS, _ZERO = range(0, 32, 4)
_RESIDUAL, _LEFT, _RIGHT, _OFFSET = range(32, 48, 4)
"""Offsets in the task that the assembly is handed."""
