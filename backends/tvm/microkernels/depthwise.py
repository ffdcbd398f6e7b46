"""Depthwise convolutions: one output position, all channels in blocks.

    out[c] = act(bias[c] + sum over rows r, taps t of in[r * in_row + t * in_step + c] * w[...])

with weights packed in the order block, window row, window column, channel in block. A tap of 16
channels takes 16 multiply-accumulates, four loads and one addition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.backends.tvm.microkernels.activation import Activation
from offramp.backends.tvm.microkernels.assembly import (
    CHUNK,
    CLOBBERS,
    GUARD,
    chunks,
    quoted,
    span,
)

WIDEST = 16
"""Channels of a full block: as many sums as fit beside a chunk of inputs and one of weights."""


@dataclass(frozen=True)
class DepthwiseColumn:
    """Structure of a microkernel. channels: of one block. taps: valid ones of a window row.

    activation: of the sums.
    """

    channels: int
    taps: int
    activation: Activation

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"depthwise_{self.channels}x{self.taps}{self.activation.suffix}"

    def source(self) -> str:
        """The C definition: assembly for Arm with a floating-point unit, loops elsewhere."""
        return _FUNCTION.format(
            name=self.name,
            guard=GUARD,
            assembly=quoted(self._assembly()),
            clobbers=CLOBBERS,
            channels=self.channels,
            taps=self.taps,
            result=self.activation.in_c("sum"),
        )

    def _assembly(self) -> Iterator[str]:
        """Registers: sums, then a chunk of inputs, then a chunk of weights."""
        bytes_ = 4 * self.channels
        yield "1:"
        yield f"vldmia %[bias]!, {span(0, self.channels)}"
        yield "mov %[x], %[in]"
        yield "ldr %[row], [%[constants]]"
        yield "cmp %[row], #0"
        yield "beq 3f"
        yield "2:"
        for tap in range(self.taps):
            yield from self._tap()
            if tap + 1 < self.taps:
                yield "add %[x], %[x], %[in_step]"
        yield "ldr %[skip], [%[constants], #4]"
        yield "add %[x], %[x], %[skip]"
        yield "ldr %[skip], [%[constants], #8]"
        yield "add %[w], %[w], %[skip]"
        yield "subs %[row], %[row], #1"
        yield "bne 2b"
        yield "3:"
        yield from self.activation.in_assembly(self.channels, "%[x]")
        yield f"vstmia %[out]!, {span(0, self.channels)}"
        yield f"add %[in], %[in], #{bytes_}"
        yield "ldr %[skip], [%[constants], #12]"
        yield "add %[w], %[w], %[skip]"
        yield "subs %[blocks], %[blocks], #1"
        yield "bne 1b"

    def _tap(self) -> Iterator[str]:
        inputs, weights = self.channels, self.channels + CHUNK
        for start, count in chunks(self.channels):
            yield f"vldmia %[x]!, {span(inputs, count)}"
            yield f"vldmia %[w]!, {span(weights, count)}"
            for i in range(count):
                yield f"vfma.f32 s{start + i}, s{inputs + i}, s{weights + i}"


_FUNCTION = """\
static void {name}(float *out, const float *in, const float *w, const float *bias, int32_t blocks,
                   int32_t rows, int32_t in_step, int32_t in_row, int32_t w_row,
                   int32_t w_block) {{
  if (rows < 0) rows = 0;
{guard}
  const int32_t constants[] = {{rows, 4 * (in_row - ({taps} - 1) * in_step - {channels}),
                               4 * (w_row - {taps} * {channels}), 4 * (w_block - rows * w_row)}};
  int32_t row, skip;
  const float *x;
  __asm volatile(
{assembly}
      : [out] "+r"(out), [in] "+r"(in), [w] "+r"(w), [bias] "+r"(bias), [blocks] "+r"(blocks),
        [row] "=&r"(row), [x] "=&r"(x), [skip] "=&r"(skip)
      : [constants] "r"(constants), [in_step] "r"(4 * (in_step - {channels}))
      : "cc", "memory", {clobbers});
#else
  for (int32_t b = 0; b < blocks; ++b)
    for (int32_t c = 0; c < {channels}; ++c) {{
      float sum = bias[b * {channels} + c];
      for (int32_t r = 0; r < rows; ++r)
        for (int32_t t = 0; t < {taps}; ++t)
          sum += in[r * in_row + t * in_step + b * {channels} + c] *
                 w[b * w_block + r * w_row + t * {channels} + c];
      out[b * {channels} + c] = {result};
    }}
#endif
}}
"""
