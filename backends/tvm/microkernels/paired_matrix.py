"""Tiles of integer convolutions for cores with nothing but a 32-bit multiplication.

    out[p * step + f] = clamp(zero + round(m[f] * (bias[f] + sum over k of x[p, k] * w[f, k])))

or, with a residual r, clamp((that * own + r[p * step + f] * other + offset) >> by_sum).

Two neighbouring pixels a, b share a word, a + b * 2^16 (see `paired_gather`): one multiplication by
a weight and one addition are two multiply-accumulates. Both halves stay exact as long as the
magnitudes of the weights sum up to at most 255, for then |sum| < 2^15; so the weights of a filter
are cut into runs (see `offramp.backends.tvm.integer.runs`), and after each the halves move to sums
of 32 bits. Words start at 0x80008000, so that halves are never negative and part without a borrow;
`bias` makes up for that. A run is a jump into a chain of taps.

Narrow weights lie two a byte, the first in the lower half, and count as one tap: two instructions
more for both, but runs are longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.backends.tvm.microkernels.chain import over_runs
from offramp.backends.tvm.microkernels.rounding import PARAMETERS, ROUNDING, Rounding

WIDEST = 8
"""Outputs of a full tile: their sums and the four words fit in registers."""


@dataclass(frozen=True)
class PairedTile:
    """Structure of a microkernel.

    pixels: outputs that are summed side by side. rounding: of the sums. adds: whether a
    residual is added. narrow: whether weights have four bits.
    """

    pixels: int
    rounding: Rounding
    adds: bool = False
    narrow: bool = False

    @property
    def name(self) -> str:
        """The C function's name."""
        kind = ("_plus" if self.adds else "") + ("_narrow" if self.narrow else "")
        return f"paired_tile_{self.pixels}_{self.rounding.name}{kind}"

    @property
    def pairs(self) -> int:
        """Words of the inputs of a tap; the last is half unused if `pixels` is odd."""
        return -(-self.pixels // 2)

    def source(self) -> str:
        """The C definition."""
        words = range(self.pairs)
        return ROUNDING + _FUNCTION.format(
            name=self.name,
            pairs=self.pairs,
            sums=", ".join(f"s{p} = first" for p in range(2 * self.pairs)),
            loop=over_runs(
                f"uint32_t {', '.join(f'a{i} = 0x80008000u' for i in words)}; "
                f"x += taps * {2 * self.pairs if self.narrow else self.pairs}; w += taps;",
                self._two_taps if self.narrow else self._tap,
                " ".join(f"s{2 * i} += a{i} & 0xffffu; s{2 * i + 1} += a{i} >> 16;" for i in words),
            ),
            scale=self.rounding.declared(),
            store="\n".join(self._stores()),
            step_words=self.rounding.words,
            parameters=PARAMETERS,
            residual=_RESIDUAL if self.adds else "",
            next_residual="    ++residual;\n" if self.adds else "",
        )

    def _tap(self, left: int) -> str:
        words = range(self.pairs)
        products = " ".join(f"a{i} += x[{i - left * self.pairs}] * v;" for i in words)
        return f"const uint32_t v = (uint32_t)w[-{left}]; {products}"

    def _two_taps(self, left: int) -> str:
        first = range(-2 * left * self.pairs, (1 - 2 * left) * self.pairs)
        products = " ".join(
            f"a{i} += x[{at}] * v; a{i} += x[{at + self.pairs}] * u;" for i, at in enumerate(first)
        )
        return (
            f"const int32_t two = w[-{left}]; const uint32_t u = (uint32_t)(two >> 4), "
            f"v = (uint32_t)((int32_t)((uint32_t)two << 28) >> 28); {products}"
        )

    def _stores(self) -> Iterator[str]:
        for p in range(self.pixels):
            value = self.rounding.bounded(f"s{p}")
            if self.adds:
                own = f"between({self.rounding.scaled(f's{p}')}, -128, 127)"
                total = f"(own * {own} + other * residual[{p} * step] + offset) >> by_sum"
                value = f"(int8_t)between({total}, low, high)"
            yield f"    out[{p} * step] = {value};"


_RESIDUAL = """,
                 const int8_t *residual, int32_t own, int32_t other, int32_t offset,
                 int32_t by_sum"""

_FUNCTION = """\
SHARED_CODE
static void {name}(int8_t *out, const void *inputs, const int8_t *w, const void *lengths,
                 const int32_t *scales, int32_t steps, int32_t step,
                 {parameters}{residual}) {{
  const uint32_t *run = lengths;
  const uint32_t *const begin = inputs, *const end = begin + steps * {pairs};
  for (int32_t f = 0; f < step; ++f, scales += {step_words}, ++out) {{
    const uint32_t first = (uint32_t)scales[0];
    uint32_t {sums};
    const uint32_t *x = begin;
{loop}
    {scale}
{store}
{next_residual}  }}
}}
"""
