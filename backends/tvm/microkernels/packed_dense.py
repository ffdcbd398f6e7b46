"""Integer dense layers of one sample for cores with nothing but a 32-bit multiplication.

    out[f] = clamp(zero + round(m[f] * (bias[f] + sum over k of x[k] * w[f, k])))

A word of weights holds one byte for each of four filters, biased by 128. Two masks leave two words
with a filter in each half, and one multiplication by an input and one addition are two
multiply-accumulates. What the biases add is the sum of a run's inputs, times 128, in both halves:
it is subtracted after the run, before the halves part. For runs see `paired_matrix`.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.microkernels.chain import over_runs
from offramp.backends.tvm.microkernels.rounding import PARAMETERS, ROUNDING, Rounding


@dataclass(frozen=True)
class PackedDense:
    """Structure of a microkernel. words: of the weights of a tap, four filters each."""

    words: int
    rounding: Rounding

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"packed_dense_{self.words}_{self.rounding.name}"

    @property
    def lanes(self) -> int:
        """Filters of a block."""
        return 4 * self.words

    def source(self) -> str:
        """The C definition."""
        lanes, pairs, words = range(self.lanes), range(2 * self.words), self.rounding.words
        return ROUNDING + _FUNCTION.format(
            name=self.name,
            lanes=self.lanes,
            parameters=PARAMETERS,
            sums=", ".join(f"s{f} = (uint32_t)scales[{words * f}]" for f in lanes),
            loop=over_runs(
                f"uint32_t inputs = 0, {', '.join(f'a{i} = 0x80008000u' for i in pairs)}; "
                f"x += taps; w += {self.words} * taps;",
                self._tap,
                "const uint32_t bias = inputs * 0x800080u; "
                f"{' '.join(f'a{i} -= bias;' for i in pairs)} {' '.join(map(self._fold, lanes))}",
            ),
            stores="\n".join(map(self._store, lanes)),
        )

    def _tap(self, left: int) -> str:
        products = "".join(
            f" const uint32_t w{i} = w[{i - self.words * left}];"
            f" a{2 * i} += v * (w{i} & 0xff00ffu); a{2 * i + 1} += v * (w{i} >> 8 & 0xff00ffu);"
            for i in range(self.words)
        )
        return f"const uint32_t v = (uint32_t)x[-{left}]; inputs += v;{products}"

    def _fold(self, lane: int) -> str:
        """Bytes 0 and 2 of a word went to the halves of one word, bytes 1 and 3 to another's."""
        pair, is_high = lane // 4 * 2 + lane % 2, lane % 4 >= 2
        return f"s{lane} += a{pair} {'>> 16' if is_high else '& 0xffffu'};"

    def _store(self, lane: int) -> str:
        result = self.rounding.bounded(f"s{lane}")
        return (
            f"    if ({lane} < filters) {{ {self.rounding.declared()} out[{lane}] = {result}; }}\n"
            f"    scales += {self.rounding.words};"
        )


_FUNCTION = """\
SHARED_CODE
static void {name}(int8_t *out, const int8_t *in, const void *weights, const void *lengths,
                   const int32_t *scales, int32_t steps, int32_t filters,
                   {parameters}) {{
  const int8_t *const end = in + steps;
  const uint32_t *w = weights, *run = lengths;
  for (; filters > 0; filters -= {lanes}, out += {lanes}) {{
    uint32_t {sums};
    const int8_t *x = in;
{loop}
{stores}
  }}
}}
"""
