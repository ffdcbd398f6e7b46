"""Functions of one byte by table."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.microkernels.helium import GUARD


@dataclass(frozen=True)
class TableLookup:
    """A microkernel; outputs may lie on the inputs. The table is read by unsigned byte."""

    @property
    def name(self) -> str:
        """The C function's name."""
        return "table_lookup"

    def source(self) -> str:
        """The C definition; Helium gathers sixteen at a time."""
        return _FUNCTION.format(name=self.name, guard=GUARD)


_FUNCTION = """\
static void {name}(int8_t *out, const int8_t *in, const int8_t *table, int32_t count) {{
{guard}
  __asm volatile(
      "wlstp.8 lr, %2, 2f\\n"
      "1:\\n"
      "vldrb.u8 q0, [%1], #16\\n"
      "vldrb.u8 q1, [%3, q0]\\n"
      "vstrb.8 q1, [%0], #16\\n"
      "letp lr, 1b\\n"
      "2:\\n"
      : "+r"(out), "+r"(in)
      : "r"(count), "r"(table)
      : "lr", "q0", "q1", "memory");
#else
  for (; count >= 4; count -= 4, in += 4, out += 4) {{
    out[0] = table[(uint8_t)in[0]];
    out[1] = table[(uint8_t)in[1]];
    out[2] = table[(uint8_t)in[2]];
    out[3] = table[(uint8_t)in[3]];
  }}
  for (int32_t i = 0; i < count; ++i) out[i] = table[(uint8_t)in[i]];
#endif
}}
"""
