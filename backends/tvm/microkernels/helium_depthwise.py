"""Integer depthwise convolutions for Helium: sixteen channels of a run of outputs at a time.

`vmullb` and `vmullt` multiply the even and the odd channels of sixteen bytes. Products of two taps
fit in 16 bits together; then they are widened and added to sums of 32 bits, four vectors of them:
channels 0, 4, 8, 12; 2, 6, 10, 14; 1, 5, 9, 13; 3, 7, 11, 15. Narrowing puts them in order again.
The last channels are a partial vector of whole groups of four (tail predication).

A task holds where each tap of an output lies, and by row of taps how far the next output's is from
behind the last vector: outside the image taps are zero points, and stay. The outputs of a run have
the same taps inside. Few channels are computed
for several neighbouring outputs at a time, as if they were more channels. Rows of the input up to
the output's own may be read from copies, see `integer_depthwise`; the own row is copied before any
output is written.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.microkernels.assembly import quoted
from offramp.backends.tvm.microkernels.helium import (
    BYTES,
    GUARD,
    restored,
    saved,
    scale_in_c,
    scaled,
    words,
)
from offramp.backends.tvm.microkernels.helium_gather import COPY

ORDER = (0, 2, 1, 3)
"""First channel of each vector of sums; the others are four apart."""

IN_REGISTERS = 9
"""Taps whose addresses fit in registers."""

_SUMS = ("q4", "q5", "q6", "q7")


@dataclass(frozen=True)
class HeliumDepthwiseKernel:
    """Structure of a microkernel. rows, columns: taps of the window. scaling: of the sums."""

    rows: int
    columns: int
    scaling: Scaling

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"helium_depthwise_{self.rows}x{self.columns}_{self.scaling.name}"

    @property
    def taps(self) -> int:
        """Taps of the window."""
        return self.rows * self.columns

    def source(self) -> str:
        """The C definition: assembly for Helium, loops elsewhere."""
        return (
            COPY
            + scale_in_c(self.name, self.scaling)
            + _FUNCTION.format(
                name=self.name,
                guard=GUARD,
                assembly=quoted(self._assembly()),
                taps=self.taps,
                rows=self.rows,
                columns=self.columns,
                columns_1=self.columns - 1,
                low=self.scaling.low,
                high=self.scaling.high,
                words=words(self.scaling),
                shift="0" if words(self.scaling) < 3 else "scale[8]",
            )
        )

    @property
    def _fits(self) -> bool:
        """Whether addresses of taps stay in registers."""
        return self.taps <= IN_REGISTERS

    def _assembly(self) -> Iterator[str]:
        """Registers: r0 to r8 taps, r12 zero point; r9 weights; r10 scales; r11 output.

        More taps are in the task, r12; then r1 is the zero point.
        """
        after = 4 * (self.taps + self.rows)
        channels, weights, output, zero, outputs = (after + i for i in (0, 4, 12, 16, 20))
        yield from saved(8)
        yield "push {r0}"
        yield "mov r12, r0"
        if self._fits:
            yield from (f"ldr r{t}, [r12, #{4 * t}]" for t in range(self.taps))
        yield "2:"
        yield f"ldr r9, [r12, #{channels}]"
        yield f"ldr r11, [r12, #{output}]"
        yield "add r10, r11, r9"
        yield f"str r10, [r12, #{output}]"
        yield "dlstp.8 lr, r9"
        yield f"ldrd r9, r10, [r12, #{weights}]"
        yield f"ldr {'r12' if self._fits else 'r1'}, [r12, #{zero}]"
        yield "1:"
        yield from self._sums()
        yield from self._outputs()
        yield "letp lr, 1b"
        yield "ldr r12, [sp]"
        yield from self._next()
        yield f"ldr r9, [r12, #{outputs}]"
        yield "subs r9, r9, #1"
        yield f"str r9, [r12, #{outputs}]"
        yield "bne 2b"
        yield "add sp, sp, #4"
        yield from restored(8)
        yield "bx lr"

    def _next(self) -> Iterator[str]:
        """Addresses of the next output's taps."""
        for row in range(self.rows):
            yield f"ldr r9, [r12, #{4 * (self.taps + row)}]"
            for tap in range(row * self.columns, (row + 1) * self.columns):
                address = yield from self._address(tap)
                yield f"add {address}, {address}, r9"
                yield from self._kept(tap, address)

    def _sums(self) -> Iterator[str]:
        """Products of two taps at a time; the last one may be alone."""
        for tap in range(0, self.taps, 2):
            address = yield from self._address(tap)
            yield f"vldrb.8 q0, [{address}], #{BYTES}"
            yield f"vldrb.8 q1, [r9], #{BYTES}"
            yield "vmullb.s8 q2, q0, q1"
            yield "vmullt.s8 q3, q0, q1"
            yield from self._kept(tap, address)
            if tap + 1 < self.taps:
                yield from self._second(tap + 1)
            for total, (half, part) in zip(_SUMS, _PARTS, strict=True):
                if tap == 0:
                    yield f"vmovl{half}.s16 {total}, {part}"
                else:
                    yield f"vmovl{half}.s16 q0, {part}"
                    yield f"vadd.i32 {total}, {total}, q0"

    def _second(self, tap: int) -> Iterator[str]:
        """Inputs are loaded twice: there is no register for a second pair of products."""
        address = yield from self._address(tap)
        yield f"vldrb.8 q0, [{address}]"
        yield f"vldrb.8 q1, [r9], #{BYTES}"
        yield "vmullb.s8 q0, q0, q1"
        yield "vadd.i16 q2, q2, q0"
        yield f"vldrb.8 q0, [{address}], #{BYTES}"
        yield "vmullt.s8 q0, q0, q1"
        yield "vadd.i16 q3, q3, q0"
        yield from self._kept(tap, address)

    def _address(self, tap: int) -> Generator[str, None, str]:
        """Yield what is needed to have a tap's address in a register; return the register."""
        if self._fits:
            return f"r{tap}"
        yield f"ldr r0, [r12, #{4 * tap}]"
        return "r0"

    def _kept(self, tap: int, address: str) -> Iterator[str]:
        if not self._fits:
            yield f"str {address}, [r12, #{4 * tap}]"

    def _outputs(self) -> Iterator[str]:
        for total in _SUMS:
            yield f"vldrw.32 q0, [r10], #{BYTES}"
            yield f"vldrw.32 q1, [r10], #{BYTES}"
            if self.scaling.exact:
                yield f"vldrw.32 q2, [r10], #{BYTES}"
            yield f"vadd.i32 {total}, {total}, q0"
            yield from scaled(self.scaling, total, "q1", "q2", "q3")
        zero = "r12" if self._fits else "r1"
        for bottom, top in (("q4", "q5"), ("q6", "q7")):
            yield f"vqmovnb.s32 {bottom}, {bottom}"
            yield f"vqmovnt.s32 {bottom}, {top}"
            yield f"vqadd.s16 {bottom}, {bottom}, {zero}"
        yield "vqmovnb.s16 q4, q4"
        yield "vqmovnt.s16 q4, q6"
        bounds = (("vmax", self.scaling.low, -128), ("vmin", self.scaling.high, 127))
        for instruction, bound, default in bounds:
            if bound != default:
                yield f"vmov.i8 q0, #{bound & 0xFF}"
                yield f"{instruction}.s8 q4, q4, q0"
        yield f"vstrb.8 q4, [r11], #{BYTES}"


_PARTS = (("b", "q2"), ("t", "q2"), ("b", "q3"), ("t", "q3"))
"""Bottom and top lanes of the products of even and of odd channels."""

_FUNCTION = """\
struct {name}_task {{
  const int8_t *taps[{taps}];
  int32_t advance[{rows}], channels;
  const int8_t *w; const int32_t *scales; int8_t *out;
  int32_t zero, outputs;
}};

{guard}
__attribute__((naked, noinline, noipa)) static void {name}_run(struct {name}_task *task) {{
  __asm volatile(
{assembly}
  );
}}
#else
static void {name}_run(struct {name}_task *task) {{
  const int32_t read = (task->channels + 15) / 16 * 16;
  for (int32_t o = 0; o < task->outputs; ++o, task->out += task->channels)
    for (int32_t c = 0; c < task->channels; ++c) {{
      const int8_t *w = task->w + c / 16 * (16 * {taps}) + c % 16;
      const int32_t vector = c % 4 == 1 ? 2 : c % 4 == 2 ? 1 : c % 4;
      const int32_t *scale =
          task->scales + (c / 16 * 4 + vector) * (4 * {words}) + c % 16 / 4;
      int32_t sum = scale[0];
      for (int32_t t = 0; t < {taps}; ++t)
        sum += w[16 * t] * task->taps[t][c + o * (task->advance[t / {columns}] + read)];
      const int32_t value = {name}_scaled(sum, scale[4], {shift}) + task->zero;
      task->out[c] = (int8_t)(value < {low} ? {low} : value > {high} ? {high} : value);
    }}
}}
#endif

{guard}
__attribute__((always_inline)) inline
#endif
static void {name}(int8_t *out, const int8_t *in, void *scratch, const int8_t *w,
                   const int32_t *scales, int32_t rows, int32_t columns, int32_t channels,
                   int32_t row_outputs, int32_t column_outputs, int32_t row_stride,
                   int32_t column_stride, int32_t above, int32_t before, int32_t row_dilation,
                   int32_t column_dilation, int32_t together, int32_t outside, int32_t zero,
                   int32_t kept) {{
  const int32_t line = columns * channels, last = columns - 1 - {columns_1} * column_dilation;
  int8_t *const zeros = scratch, *const ring = filled(zeros, outside, together * channels);
  struct {name}_task task = {{.w = w, .scales = scales, .out = out, .zero = zero}};
  for (int32_t own = 0; own < row_outputs; ++own) {{
    if (kept > 0) copied(ring + own % kept * line, in + own * line, line);
    int32_t column = -before, outputs = column_outputs;
    for (int32_t run; outputs > 0; outputs -= run, column += run * column_stride) {{
      run = column >= 0 && column <= last ? (last - column) / column_stride + 1 : 1;
      run = run < outputs ? run : outputs;
      const int32_t each = run >= together ? together : 1;
      run -= run % each;
      task.channels = each * channels;
      const int8_t **tap = task.taps;
      for (int32_t r = 0, y = own * row_stride - above; r < {rows}; ++r, y += row_dilation) {{
        const int32_t is_row = y >= 0 && y < rows, is_kept = kept > 0 && y <= own;
        const int8_t *from = (is_kept ? ring : in) + (is_kept ? y % kept : y) * line;
        for (int32_t t = 0, x = column; t < {columns}; ++t, x += column_dilation)
          *tap++ = is_row && x >= 0 && x < columns ? from + x * channels : zeros;
        task.advance[r] = is_row ? each * column_stride * channels : 0;
        task.advance[r] -= (task.channels + 15) / 16 * 16;
      }}
      task.outputs = run / each;
      {name}_run(&task);
    }}
  }}
}}
"""
