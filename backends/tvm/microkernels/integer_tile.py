"""The C around the assembly of integer tiles, and what it computes in plain C.

Compilers without the assembly take the loops, and so do the tests on the host.
"""

from __future__ import annotations

from offramp.backends.tvm.integer.scaling import Scaling, whole_range


def definition(
    *,
    name: str,
    guard: str,
    assembly: str,
    tile: tuple[int, int],
    bits: int,
    scaling: Scaling,
    sum_shift: int | None,
) -> str:
    """The definition of a tile's C function; see `IntegerTile`.

    guard: when the assembly is compiled. tile: pixels, filters.
    """
    pixels, filters = tile
    return _FUNCTION.format(
        name=name,
        guard=guard,
        assembly=assembly,
        pixels=pixels,
        filters=filters,
        item=f"int{scaling.bits}_t",
        lowest=whole_range(scaling.bits)[0],
        highest=whole_range(scaling.bits)[1],
        low=scaling.low,
        high=scaling.high,
        words=scaling.words,
        start="scale[0] >> 4" if bits == 4 else "scale[0]",
        weights=_WEIGHTS[bits].format(filters=filters),
        scaled=(_EXACT if scaling.exact else _ROUNDED_ONCE).format(shift=scaling.shift),
        result="value" if sum_shift is None else _SUM.format(shift=sum_shift),
        **(_PLAIN if sum_shift is None else _ADDING),
    )


_ROUNDED_ONCE = """\
      int64_t scaled = (int64_t)(sum * (1 << {shift})) * scale[1] + (int64_t)zero * 4294967296;
      int32_t value = (int32_t)((scaled + 0x80000000LL) >> 32);
"""
_EXACT = """\
      int32_t value = (int32_t)(((int64_t)(sum * (1 << {shift})) * scale[1] + 0x40000000) >> 31);
      value = (value + ((1 << scale[2]) >> 1) + (scale[3] & (value >> 31))) >> scale[2];
      value += zero;
"""
_BYTES = "w[((f / {filters} * (steps / 4) + k / 4) * {filters} + f % {filters}) * 4 + k % 4]"
_NARROW = """\
((int8_t)(w[((f / {filters} * (steps / 8) + k / 8) * {filters} + f % {filters}) * 4 + k % 4] *
                    (k % 8 < 4 ? 1 : 16)) >> 4)"""
_WIDE = """\
((const int16_t *)(const void *)w)[((f / {filters} * (steps / 4) + k / 4) * {filters} +
                     f % {filters}) * 4 + k % 2 * 2 + k / 2 % 2]"""
_WEIGHTS = {4: _NARROW, 8: _BYTES, 16: _WIDE}
_PLAIN = {"parameters": "", "fields": "", "values": ""}
_ADDING = {
    "parameters": """,
                   const int8_t *residual, int32_t left, int32_t right, int32_t offset""",
    "fields": "\n  const int8_t *residual; int32_t left, right, offset;",
    "values": ", residual, left, right, offset",
}
_SUM = "(value * left + residual[p * step + f] * right + offset) >> {shift}"

_FUNCTION = """\
{guard}
struct {name}_task {{
  const void *x; const int8_t *w; const int32_t *scales; {item} *out;
  int32_t step, rounds, blocks, zero;{fields}
}};

__attribute__((naked, noinline, noipa)) static void {name}_run(struct {name}_task *task) {{
  __asm volatile(
{assembly}
  );
}}
#endif

static void {name}({item} *out, const void *x, const int8_t *w, const int32_t *scales,
                   int32_t rounds, int32_t blocks, int32_t steps, int32_t step,
                   int32_t zero{parameters}) {{
{guard}
  (void)steps;
  const int32_t bytes = step * (int32_t)sizeof *out;
  struct {name}_task task = {{x, w, scales, out, bytes, rounds, blocks, zero{values}}};
  {name}_run(&task);
#else
  (void)rounds;
  const int16_t *items = x;
  for (int32_t f = 0; f < blocks * {filters}; ++f)
    for (int32_t p = 0; p < {pixels}; ++p) {{
      const int32_t *scale = scales + {words} * f;
      int32_t sum = {start};
      for (int32_t k = 0; k < steps; ++k) {{
        int32_t half = k / 4 * 2 + k % 2, high = k / 2 % 2;
        sum += items[(half * {pixels} + p) * 2 + high] * {weights};
      }}
{scaled}      value = value < {lowest} ? {lowest} : value > {highest} ? {highest} : value;
      value = {result};
      out[p * step + f] = ({item})(value < {low} ? {low} : value > {high} ? {high} : value);
    }}
#endif
}}
"""
