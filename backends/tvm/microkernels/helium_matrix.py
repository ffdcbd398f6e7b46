"""Tiles of integer convolutions and dense layers, for Helium.

    out[p * step + f] = clamp(zero + round(m[f] * (bias[f] + sum of x[p * pitch + k] * w[f, k])))

or, with a residual r, clamp((that * left + r[p * step + f] * right + offset) >> sum_shift).

`vmladava` multiplies 16 pairs of bytes and adds all products to one sum. Two pixels and four
filters, 128 multiply-accumulates, take 14 instructions: their eight sums are the even core
registers, which are all that the instruction can add to; pointers and counters are the odd ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.microkernels.assembly import quoted
from offramp.backends.tvm.microkernels.helium import (
    BYTES,
    GUARD,
    LANES,
    filled,
    restored,
    saved,
    saved_bytes,
    scale_in_c,
    scaled,
    words,
)

STRAIGHT = 9
"""Rounds of 16 reduction steps up to which their loop is unrolled altogether."""

_SUMS = (("r0", "r2", "r4", "r6"), ("r8", "r10", "r12", "lr"))
_INPUTS = ("r1", "r3")


@dataclass(frozen=True)
class HeliumTile:
    """Structure of a microkernel.

    rounds: of 16 reduction steps, without a loop; 0: any number, in a loop. unroll: rounds in the
    body of the loop; divides their number. pairs: there are at least two pixels. single: their
    number is odd. filters: of a block that are stored, at most four. ragged: bytes that may be read
    in a pixel's last vector, without a loop; 0: all. scaling: of the sums. sum_shift: of the sum
    with a residual; None without one.
    """

    rounds: int
    unroll: int
    pairs: bool
    single: bool
    filters: int
    ragged: int
    scaling: Scaling
    sum_shift: int | None = None

    @property
    def name(self) -> str:
        """The C function's name."""
        length = f"{self.rounds}" if self.rounds else f"n{self.unroll}"
        pixels = ("pairs" if self.pairs else "") + ("single" if self.single else "")
        length += f"r{self.ragged}" if self.ragged else ""
        added = "" if self.sum_shift is None else f"_plus{self.sum_shift}"
        return f"helium_tile_{length}_{pixels}{self.filters}_{self.scaling.name}{added}"

    def source(self) -> str:
        """The C definition: assembly for Helium, loops elsewhere."""
        return scale_in_c(self.name, self.scaling) + _FUNCTION.format(
            name=self.name,
            guard=GUARD,
            assembly=quoted(self._assembly()),
            low=self.scaling.low,
            high=self.scaling.high,
            filters=self.filters,
            words=words(self.scaling),
            shift="0" if words(self.scaling) < 3 else "scale[8]",
            single=int(self.single),
            beyond=BYTES - self.ragged if self.ragged else 0,
            parameters="" if self.sum_shift is None else _ADDING,
            result="value" if self.sum_shift is None else _SUM.format(shift=self.sum_shift),
        )

    def _assembly(self) -> Iterator[str]:
        """Registers: r1, r3 inputs; r5 weights; r7 output; r9 counter; r11 arguments.

        Those in registers are stored beside the others, where all are counted down and stepped on;
        two words on the stack hold the pairs of pixels that are left, if r9 counts rounds, and a
        place in the residual.
        """
        yield "push {r0-r3}"
        yield from saved(self._vectors)
        yield f"add r11, sp, #{saved_bytes(self._vectors)}"
        yield "sub sp, sp, #8"
        yield "1:"
        yield from self._start()
        if self.pairs:
            yield "2:"
            yield from self._summed(2)
            yield from self._finish(2)
            yield from self._next_pair()
        if self.single:
            yield from self._summed(1)
            yield from self._finish(1)
        yield f"str r5, [r11, #{_WEIGHTS}]"
        yield from _counted(f"r11, #{_BLOCKS}", "1b")
        yield "add sp, sp, #8"
        yield from restored(self._vectors)
        yield "add sp, sp, #16"
        yield "bx lr"

    @property
    def _vectors(self) -> int:
        """Registers used: the scales follow inputs and weights."""
        return 4 + words(self.scaling)

    def _start(self) -> Iterator[str]:
        """Load scales to q4 and behind, and step on to the next four filters."""
        yield f"ldr r5, [r11, #{_SCALES}]"
        for i in range(words(self.scaling)):
            yield f"vldrw.32 q{4 + i}, [r5], #{BYTES}"
        yield f"str r5, [r11, #{_SCALES}]"
        yield f"ldr r7, [r11, #{_OUTPUT}]"
        yield f"add r0, r7, #{LANES}"
        yield f"str r0, [r11, #{_OUTPUT}]"
        if self.sum_shift is not None:
            yield f"ldr r6, [r11, #{_RESIDUAL}]"
            yield "str r6, [sp, #4]"
            yield f"add r6, r6, #{LANES}"
            yield f"str r6, [r11, #{_RESIDUAL}]"
        yield f"ldr r1, [r11, #{_INPUT}]"
        if self.pairs:
            yield f"ldr r3, [r11, #{_PITCH}]"
            yield "add r3, r3, r1"
            yield f"ldr r9, [r11, #{_PAIRS}]"
            if not self.rounds:
                yield "str r9, [sp]"
        if self.filters == LANES:
            yield from self._partial()

    def _partial(self) -> Iterator[str]:
        """Predicate the last vector; the filters stored may be predicated in between."""
        if self.ragged:
            yield f"mov r0, #{self.ragged}"
            yield "vctp.8 r0"

    def _next_pair(self) -> Iterator[str]:
        """Without rounds to count, r9 counts the pairs."""
        if not self.rounds:
            yield from _counted("sp, #0", "2b")
            return
        yield "subs r9, r9, #1"
        yield "bne 2b"

    def _summed(self, pixels: int) -> Iterator[str]:
        """Sums of products, in core registers."""
        yield f"ldr r5, [r11, #{_WEIGHTS}]"
        if self.filters < LANES:
            yield from self._partial()
        if self.rounds:
            for i in range(self.rounds):
                is_partial = self.ragged > 0 and i == self.rounds - 1
                yield from _round(pixels, "vmladava" if i else "vmladav", is_partial)
            return
        yield f"ldr r9, [r11, #{_ROUNDS}]"
        yield from (f"mov {total}, #0" for sums in _SUMS[:pixels] for total in sums)
        yield "3:"
        for _ in range(self.unroll):
            yield from _round(pixels, "vmladava")
        yield "subs r9, r9, #1"
        yield "bne 3b"

    def _finish(self, pixels: int) -> Iterator[str]:
        """Scale, round, clamp and store the sums of one or two pixels."""
        vectors = ("q0", "q1")[:pixels]
        for vector, sums in zip(vectors, _SUMS, strict=False):
            yield f"vmov {vector}[2], {vector}[0], {sums[0]}, {sums[2]}"
            yield f"vmov {vector}[3], {vector}[1], {sums[1]}, {sums[3]}"
        yield "ldm r11, {r0, r2, r4}"  # zero, step, advance
        for vector in vectors:
            yield f"vadd.i32 {vector}, {vector}, q4"
            yield from scaled(self.scaling, vector, "q5", "q6", "q2")
            yield f"vadd.i32 {vector}, {vector}, r0"
        if self.sum_shift is not None:
            yield from self._added(vectors, self.sum_shift)
        yield from self._bounded(vectors)
        for vector in vectors:
            yield f"vqmovnb.s32 {vector}, {vector}"
            yield f"vqmovnb.s16 {vector}, {vector}"
            yield from self._predicated(f"vstrb.32 {vector}, [r7]")
            yield "add r7, r7, r2"
        if pixels == 2:
            yield "add r1, r1, r4"
            yield "add r3, r3, r4"

    def _added(self, vectors: tuple[str, ...], shift: int) -> Iterator[str]:
        """The sum with the residual, which may be overwritten by the outputs."""
        yield "ldr r6, [sp, #4]"
        yield f"ldrd r8, r10, [r11, #{_LEFT}]"
        yield f"ldr r12, [r11, #{_OFFSET}]"
        yield filled("q2", -128)
        yield filled("q3", 127)
        for vector in vectors:
            yield f"vmax.s32 {vector}, {vector}, q2"
            yield f"vmin.s32 {vector}, {vector}, q3"
        for vector in vectors:
            yield f"vmul.i32 {vector}, {vector}, r8"
            yield from self._predicated("vldrb.s32 q2, [r6]")
            yield "add r6, r6, r2"
            yield f"vmla.s32 {vector}, q2, r10"
            yield f"vadd.i32 {vector}, {vector}, r12"
            yield f"vshr.s32 {vector}, {vector}, #{shift}"
        yield "str r6, [sp, #4]"

    def _predicated(self, access: str) -> Iterator[str]:
        """A load or store of as many lanes as there are filters."""
        if self.filters == LANES:
            yield access
            return
        yield f"mov r0, #{self.filters}"
        yield "vctp.32 r0"
        yield "vpst"
        yield access.replace(".", "t.", 1)

    def _bounded(self, vectors: tuple[str, ...]) -> Iterator[str]:
        bounds = (("vmax", self.scaling.low, -128), ("vmin", self.scaling.high, 127))
        for instruction, bound, default in bounds:
            if bound != default:
                yield filled("q2", bound)
                yield from (f"{instruction}.s32 {vector}, {vector}, q2" for vector in vectors)


def _round(pixels: int, instruction: str, is_partial: bool = False) -> Iterator[str]:
    """Sixteen reduction steps; a load and a multiplication that do not depend alternate."""
    for i in range(pixels):
        if is_partial:
            yield "vpst"
        yield f"vldrb{'t' if is_partial else ''}.8 q{i}, [{_INPUTS[i]}], #{BYTES}"
    for f in range(LANES):
        yield f"vldrb.8 q{2 + f % 2}, [r5], #{BYTES}"
        for i in range(pixels):
            yield f"{instruction}.s8 {_SUMS[i][f]}, q{i}, q{2 + f % 2}"


def _counted(place: str, label: str) -> Iterator[str]:
    """Count a word in memory down and go on at `label` until it is zero."""
    yield f"ldr r0, [{place}]"
    yield "subs r0, r0, #1"
    yield f"str r0, [{place}]"
    yield f"bne {label}"


_PITCH, _INPUT, _WEIGHTS, _SCALES, _OUTPUT, _ROUNDS, _PAIRS, _BLOCKS = range(12, 44, 4)
_RESIDUAL, _LEFT, _RIGHT, _OFFSET = range(44, 60, 4)
"""Offsets of arguments; zero, step and advance are at the beginning."""

_ADDING = """,
                   const int8_t *residual, int32_t left, int32_t right, int32_t offset"""
_SUM = "(value * left + residual[p * step + f] * right + offset) >> {shift}"

_FUNCTION = """\
{guard}
__attribute__((naked, noipa))
#endif
static void {name}(int32_t zero, int32_t step, int32_t advance, int32_t pitch, const int8_t *x,
                   const int8_t *w, const int32_t *scales, int8_t *out, int32_t rounds,
                   int32_t pairs, int32_t blocks{parameters}) {{
{guard}
  __asm volatile(
{assembly}
  );
#else
  const int32_t steps = 2 * pitch - advance, pixels = 2 * pairs + {single};
  (void)rounds;
  for (int32_t f = 0; f < blocks * 4 && f % 4 < {filters}; ++f)
    for (int32_t p = 0; p < pixels; ++p) {{
      const int32_t *scale = scales + f / 4 * (4 * {words}) + f % 4;
      int32_t sum = scale[0];
      for (int32_t k = 0; k < steps - {beyond}; ++k)
        sum += x[p * pitch + k] * w[f / 4 * (4 * steps) + k / 16 * 64 + f % 4 * 16 + k % 16];
      int32_t value = {name}_scaled(sum, scale[4], {shift}) + zero;
      value = value < -128 ? -128 : value > 127 ? 127 : value;
      value = {result};
      out[p * step + f] = (int8_t)(value < {low} ? {low} : value > {high} ? {high} : value);
    }}
#endif
}}
"""
