"""Integer depthwise convolutions of 3 x 3 taps: one channel after the other, each in a padded copy.

A channel's plane is contiguous in the copy and has its border, so there are no cases, its weights
stay in registers, and neighbouring outputs share what they load: four bytes of a row become the
pairs (0, 2) and (1, 3), of which outputs 0 and 1 take a dual multiply and a single one each. Since
the input of a channel is copied before its outputs are written, these may lie on it.

Rows of a plane are columns of the image where those are longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.microkernels.assembly import quoted
from offramp.backends.tvm.microkernels.dual import WIDEN
from offramp.backends.tvm.microkernels.integer_matrix import DSP_GUARD, bounded

TAPS = 3
SLACK = 4
"""Bytes behind the plane that are loaded and not used."""

MOST_LEFT = 8
"""Bits by which weights, widened to 16, can be shifted to the left."""

_SAVED = 36
"""Bytes of the registers that are saved below the arguments on the stack."""
WEIGHTS, _SCALES, _ROWS, _COLUMNS, _NEXT, _ZERO = range(_SAVED, _SAVED + 24, 4)
_END, BIAS = WEIGHTS, _SCALES
"""What takes the places of arguments that are no longer needed: end of a row, start of a sum."""

_OUTER, _INNER = ("r4", "r5", "r6"), (("r7", "b"), ("r7", "t"), ("r8", "b"))
"""Taps 0 and 2 of each row as a pair; taps 1 with the half in which they lie."""

_PLACES = ("[r1], #2", "[r1, r2]", "[r1, r2, lsl #1]")
"""Rows of the window; the first is loaded last, and moves on to the next outputs."""


@dataclass(frozen=True)
class DualPlaneKernel:
    """Structure of a microkernel. scaling: of the sums. together: channels copied at a time."""

    scaling: Scaling
    together: int

    taps = TAPS
    """Of a row of the window."""
    weight_words = 3
    """Of a channel."""

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"dual_plane_{self.together}_{self.scaling.name}"

    def source(self) -> str:
        """The C definition: assembly for Arm with dual multiplies, loops elsewhere."""
        scaled = _EXACT if self.scaling.exact else _ROUNDED_ONCE
        replacements = {
            "WEIGHT_WORDS": str(self.weight_words),
            "BORDER_BYTES": str(self.taps - 1),
            "NAME": self.name,
            "GUARD": DSP_GUARD,
            "ASSEMBLY": quoted(self._assembly()),
            "TOGETHER": str(self.together),
            "COPY": _COPIES[self.together],
            "SUM": self._sum_in_c(),
            "WORDS": str(self.scaling.words),
            "SCALED": scaled,
            "LOW": str(self.scaling.low),
            "HIGH": str(self.scaling.high),
        }
        text = _FUNCTION
        for name, value in replacements.items():
            text = text.replace(name, value)
        return WIDEN + text

    def _sum_in_c(self) -> str:
        """`sum` of an output, shifted to the left as much as its scaling wants."""
        return _SUM_OF_BYTES.replace("LEFT", str(1 << self.scaling.shift))

    def _assembly(self) -> Iterator[str]:
        """Registers: r0 output; r1 input; r2 bytes of a row; r3 bytes from output to output; r9
        multiplier; `_OUTER` and `_INNER`; the rest is scratch."""
        yield "push {r4-r11, lr}"
        yield from self._weights()
        yield from self._scales()
        yield "1:"
        yield f"ldr r10, [sp, #{_COLUMNS}]"
        yield "bics r10, r10, #1"
        yield "beq 3f"
        yield "add r10, r1, r10"
        yield f"str r10, [sp, #{_END}]"
        yield "2:"
        yield from self._sums(("r12", "lr"))
        yield from self._finish(("r12", "lr"))
        yield f"ldr r10, [sp, #{_END}]"
        yield "cmp r1, r10"
        yield "bne 2b"
        yield from self._end_of_row()
        yield f"ldr r10, [sp, #{_ROWS}]"
        yield "subs r10, r10, #1"
        yield f"str r10, [sp, #{_ROWS}]"
        yield "bne 1b"
        yield "pop {r4-r11, pc}"

    def _weights(self) -> Iterator[str]:
        """Widened, and shifted to the left as the sums would have to be."""
        yield f"ldr r12, [sp, #{WEIGHTS}]"
        yield "ldm r12, {r4-r6}"
        yield "sxtb16 r7, r4, ror #8"
        yield "sxtb16 r8, r5, ror #8"
        yield "pkhbt r7, r7, r8, lsl #16"
        yield "sxtb16 r8, r6, ror #8"
        for register in _OUTER:
            yield f"sxtb16 {register}, {register}"
        for _ in range(self.scaling.shift):
            for register in (*_OUTER, "r7", "r8"):
                yield f"sadd16 {register}, {register}, {register}"

    def _scales(self) -> Iterator[str]:
        """The scales but for the multiplier stay in memory; exact ones need their place."""
        yield f"ldr r10, [sp, #{_SCALES}]"
        yield "ldm r10, {r9, r12}"
        if self.scaling.shift:
            yield f"lsl r9, r9, #{self.scaling.shift}"
        if self.scaling.exact:
            yield "ldrd r10, r11, [r10, #8]"
            yield f"str r10, [sp, #{_SHIFT}]"
            yield f"str r11, [sp, #{_MASK}]"
            yield "mov r11, #1"
            yield "lsl r11, r11, r10"
            yield "lsr r11, r11, #1"
            yield f"str r11, [sp, #{_HALF}]"
        yield f"str r9, [sp, #{BIAS}]"
        yield "mov r9, r12"

    def _sums(self, sums: tuple[str, ...]) -> Iterator[str]:
        """One output, or this and the next one."""
        yield f"ldr r12, [sp, #{BIAS}]"
        if len(sums) > 1:
            yield "mov lr, r12"
        for row in (1, 2, 0):
            inner, half = _INNER[row]
            yield f"ldr r10, {_PLACES[row]}"
            yield "sxtb16 r11, r10, ror #8"
            yield "sxtb16 r10, r10"
            yield f"smlad r12, r10, {_OUTER[row]}, r12"
            yield f"smlab{half} r12, r11, {inner}, r12"
            if len(sums) > 1:
                yield f"smlad lr, r11, {_OUTER[row]}, lr"
                yield f"smlat{half} lr, r10, {inner}, lr"

    def _finish(self, sums: tuple[str, ...]) -> Iterator[str]:
        """Scale, round, clamp and store the sums."""
        if not self.scaling.exact:
            yield f"ldr r10, [sp, #{_ZERO}]"
        for total in sums:
            yield from self._scaled(total)
            yield f"ssat {total}, #8, {total}"
            yield from bounded(total, self.scaling)
        yield f"strb {sums[0]}, [r0]"
        if len(sums) > 1:
            yield f"strb {sums[1]}, [r0, r3]"
        yield f"add r0, r0, r3{', lsl #1' if len(sums) > 1 else ''}"

    def _scaled(self, total: str) -> Iterator[str]:
        if not self.scaling.exact:
            yield f"smmlar {total}, {total}, r9, r10"
            return
        yield f"smull r10, r11, {total}, r9"
        yield "adds r10, r10, #0x40000000"
        yield "adc r11, r11, #0"
        yield "lsl r11, r11, #1"
        yield f"orr {total}, r11, r10, lsr #31"
        yield f"ldr r10, [sp, #{_MASK}]"
        yield f"and r10, r10, {total}, asr #31"
        yield f"add {total}, {total}, r10"
        yield f"ldr r10, [sp, #{_HALF}]"
        yield f"ldr r11, [sp, #{_SHIFT}]"
        yield f"add {total}, {total}, r10"
        yield f"ldr r10, [sp, #{_ZERO}]"
        yield f"asr {total}, {total}, r11"
        yield f"add {total}, {total}, r10"

    def _end_of_row(self) -> Iterator[str]:
        """The last output of an odd number of them; on to the next row of the plane."""
        yield "3:"
        yield f"ldr r10, [sp, #{_COLUMNS}]"
        yield "lsls r10, r10, #31"
        yield "beq 4f"
        yield from self._sums(("r12",))
        yield from self._finish(("r12",))
        yield "sub r1, r1, #1"
        yield "4:"
        yield f"add r1, r1, #{self.taps - 1}"
        yield f"ldr r10, [sp, #{_NEXT}]"
        yield "add r0, r0, r10"


_SHIFT, _MASK, _HALF, POINTER, MULTIPLIER = range(_ZERO + 4, _ZERO + 24, 4)
"""Arguments whose values do not matter: room for what exact scaling and wider windows need."""

_ROUNDED_ONCE = """\
      int64_t scaled = (int64_t)sum * scales[1] + (int64_t)zero * 4294967296;
      int32_t value = (int32_t)((scaled + 0x80000000LL) >> 32);
"""
_EXACT = """\
      int32_t value = (int32_t)(((int64_t)sum * scales[1] + 0x40000000) >> 31);
      value = (value + ((1 << scales[2]) >> 1) + (scales[3] & (value >> 31))) >> scales[2];
      value += zero;
"""

_SUM_OF_BYTES = """\
      const int8_t *taps = (const int8_t *)w;
      int32_t sum = scales[0];
      for (int32_t t = 0; t < 9; ++t)
        sum += plane[(y + t / 3) * pitch + x + t % 3] * taps[t / 3 * 4 + t % 3];
      sum *= LEFT;
"""

_COPIES = {
    1: """\
        for (int32_t x = 0; x < columns; ++x, from += in_step) *to++ = *from;
""",
    4: """\
        for (int32_t x = 0; x < columns; ++x, ++to, from += in_step) {
          const uint32_t word = four_bytes(from);
          to[0] = (int8_t)word;
          to[size] = (int8_t)(word >> 8);
          to[2 * size] = (int8_t)(word >> 16);
          to[thrice] = (int8_t)(word >> 24);
        }
""",
}

_FUNCTION = """\
GUARD
__attribute__((naked, noinline, noipa)) static void NAME_channel(
    int8_t *out, const int8_t *plane, int32_t pitch, int32_t step, const int32_t *w,
    const int32_t *scales, int32_t rows, int32_t columns, int32_t next, int32_t zero,
    int32_t shift, int32_t mask, int32_t half, int32_t pointer, int32_t multiplier) {
  __asm volatile(
ASSEMBLY
  );
}
#else
static void NAME_channel(int8_t *out, const int8_t *plane, int32_t pitch, int32_t step,
                         const int32_t *w, const int32_t *scales, int32_t rows, int32_t columns,
                         int32_t next, int32_t zero, int32_t shift, int32_t mask, int32_t half,
                         int32_t pointer, int32_t multiplier) {
  (void)shift, (void)mask, (void)half, (void)pointer, (void)multiplier;
  for (int32_t y = 0; y < rows; ++y, out += next)
    for (int32_t x = 0; x < columns; ++x, out += step) {
SUMSCALED      *out = (int8_t)(value < LOW ? LOW : value > HIGH ? HIGH : value);
    }
}
#endif
static __attribute__((noinline)) void NAME_copy(int8_t *plane, const int8_t *in, int32_t size,
                                                int32_t rows, int32_t columns, int32_t pitch,
                                                int32_t in_step, int32_t in_line) {
  const int32_t thrice = 3 * size;
  (void)thrice;
  for (int32_t y = 0; y < rows; ++y, plane += pitch, in += in_line) {
    int8_t *to = plane;
    const int8_t *from = in;
COPY  }
}
static void NAME(int8_t *out, const int8_t *in, void *scratch, const int32_t *w,
                 const int32_t *scales, int32_t channels, int32_t rows, int32_t columns,
                 int32_t out_rows, int32_t out_columns, int32_t top, int32_t left,
                 int32_t in_step, int32_t in_line, int32_t out_step, int32_t out_line,
                 int32_t border, int32_t zero) {
  const int32_t pitch = out_columns + BORDER_BYTES, height = out_rows + BORDER_BYTES;
  const int32_t size = height * pitch;
  const int32_t used_rows = rows < height - top ? rows : height - top;
  const int32_t used_columns = columns < pitch - left ? columns : pitch - left;
  const int32_t next = out_line - out_columns * out_step;
  int8_t *const planes = scratch;
  memset(planes, border, (size_t)(TOGETHER * size + 4));
  for (int32_t c = 0; c < channels; c += TOGETHER) {
    NAME_copy(planes + top * pitch + left, in + c, size, used_rows, used_columns, pitch, in_step,
              in_line);
    for (int32_t i = 0; i < TOGETHER; ++i, w += WEIGHT_WORDS, scales += WORDS)
      NAME_channel(out + c + i, planes + i * size, pitch, out_step, w, scales, out_rows,
                   out_columns, next, zero, 0, 0, 0, 0, 0);
  }
}
"""
