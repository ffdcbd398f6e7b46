"""Integer depthwise convolutions of 5 x 5 taps, in planes as `dual_plane` has them.

Weights of such windows do not fit the registers: for each row of taps they are loaded as the pairs
(0, 2) and (1, 3) and the last one alone, already widened, and two neighbouring outputs share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.backends.tvm.microkernels.dual_plane import (
    BIAS,
    MULTIPLIER,
    POINTER,
    WEIGHTS,
    DualPlaneKernel,
)

TAPS = 5
WORDS_OF_A_ROW = 3


@dataclass(frozen=True)
class WidePlaneKernel(DualPlaneKernel):
    """Structure of a microkernel; weights are shifted to the left beforehand."""

    taps = TAPS
    weight_words = TAPS * WORDS_OF_A_ROW

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"wide_plane_{self.together}_{self.scaling.name}"

    def _sum_in_c(self) -> str:
        return _SUM_OF_PAIRS.replace("LEFT", str(1 << self.scaling.shift))

    def _weights(self) -> Iterator[str]:
        yield f"ldr r12, [sp, #{WEIGHTS}]"
        yield f"str r12, [sp, #{POINTER}]"

    def _scales(self) -> Iterator[str]:
        """The sum starts from a bias that is shifted as the weights are."""
        yield from super()._scales()
        yield f"str r9, [sp, #{MULTIPLIER}]"

    def _sums(self, sums: tuple[str, ...]) -> Iterator[str]:
        """Registers: r4 a row of the plane; r8 weights, r5 to r7 those of a row."""
        yield f"ldr r8, [sp, #{POINTER}]"
        yield f"ldr r12, [sp, #{BIAS}]"
        yield "mov r4, r1"
        if len(sums) > 1:
            yield "mov lr, r12"
        for _ in range(TAPS):
            yield from self._row(pair=len(sums) > 1)
        yield f"ldr r9, [sp, #{MULTIPLIER}]"
        yield "add r1, r1, #2"

    def _row(self, *, pair: bool) -> Iterator[str]:
        """The taps of a row, on inputs 0 to 4 and, for the second output, 1 to 5."""
        yield "ldm r8!, {r5-r7}"
        yield "ldr r9, [r4]"
        yield "ldr r10, [r4, #4]"
        yield "add r4, r4, r2"
        yield "sxtb16 r11, r9"
        yield "sxtb16 r9, r9, ror #8"
        yield "smlad r12, r11, r5, r12"
        yield "smlad r12, r9, r6, r12"
        if pair:
            yield "smlad lr, r9, r5, lr"
            yield "smlatb lr, r11, r6, lr"
        yield "sxtb16 r11, r10"
        yield "smlabb r12, r11, r7, r12"
        if pair:
            yield "sxtb16 r10, r10, ror #8"
            yield "smlabt lr, r11, r6, lr"
            yield "smlabb lr, r10, r7, lr"


_SUM_OF_PAIRS = """\
      static const int8_t places[5] = {0, 2, 1, 3, 4};
      const int16_t *taps = (const int16_t *)(const void *)w;
      int32_t sum = scales[0] * LEFT;
      for (int32_t t = 0; t < 25; ++t)
        sum += plane[(y + t / 5) * pitch + x + t % 5] * taps[t / 5 * 6 + places[t % 5]];
"""
