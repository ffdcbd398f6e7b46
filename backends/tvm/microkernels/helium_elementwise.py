"""Sums of 8-bit integers as TFLite's reference kernels compute them, for Helium."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.backends.tvm.microkernels.assembly import quoted
from offramp.backends.tvm.microkernels.helium import (
    GUARD,
    filled,
    restored,
    saved,
    saved_bytes,
    scaled_exactly,
)
from offramp.backends.tvm.microkernels.integer_elementwise import Elementwise, IntegerElementwise


@dataclass(frozen=True)
class HeliumExactAdd:
    """Structure of a microkernel. low, high: bounds of the outputs."""

    low: int
    high: int

    @property
    def name(self) -> str:
        """The C function's name."""
        return f"helium_{self._plain.name}"

    def source(self) -> str:
        """The C definition: assembly for Helium; elsewhere what other cores do."""
        assembly = quoted(_assembly(self.low, self.high))
        function = _FUNCTION.format(
            name=self.name, plain=self._plain.name, guard=GUARD, assembly=assembly
        )
        return f"#if !defined(__ARM_FEATURE_MVE)\n{self._plain.source()}#endif\n{function}"

    @property
    def _plain(self) -> IntegerElementwise:
        return IntegerElementwise(Elementwise.EXACT_ADD, self.low, self.high)


def _assembly(low: int, high: int) -> Iterator[str]:
    """Registers: r0 output; r1, r2 addends; r4 to r6 multipliers; r8 to r10 zero points.

    q4 to q6 hold the shifts, as shifts to the left.
    """
    vectors = 7
    yield from saved(vectors)
    for i in range(3):
        yield f"ldr r7, [r3, #{12 * i + 4}]"
        yield f"vdup.32 q{4 + i}, r7"
        yield f"vneg.s32 q{4 + i}, q{4 + i}"
        yield f"ldr r{4 + i}, [r3, #{12 * i}]"
    for i, register in enumerate(("r7", "r8", "r9", "r10")):
        yield f"ldr {register}, [sp, #{saved_bytes(vectors) + 4 * i}]"
    yield "wlstp.32 lr, r7, 2f"
    yield "1:"
    for i in range(2):
        yield f"vldrb.s32 q{i}, [r{1 + i}], #4"
        yield f"vsub.i32 q{i}, q{i}, r{8 + i}"
        yield f"vshl.i32 q{i}, q{i}, #20"
        yield from scaled_exactly(f"q{i}", f"r{4 + i}", f"q{4 + i}", "q2")
    yield "vadd.i32 q0, q0, q1"
    yield from scaled_exactly("q0", "r6", "q6", "q2")
    yield "vadd.i32 q0, q0, r10"
    for instruction, bound in (("vmax", low), ("vmin", high)):
        yield filled("q3", bound)
        yield f"{instruction}.s32 q0, q0, q3"
    yield "vstrb.32 q0, [r0], #4"
    yield "letp lr, 1b"
    yield "2:"
    yield from restored(vectors)
    yield "bx lr"


_FUNCTION = """\
{guard}
__attribute__((naked, noipa))
#endif
static void {name}(int8_t *out, const int8_t *left, const int8_t *right, const int32_t *scales,
                   int32_t count, int32_t left_zero, int32_t right_zero, int32_t zero) {{
{guard}
  __asm volatile(
{assembly}
  );
#else
  {plain}(out, left, right, scales, count, left_zero, right_zero, zero);
#endif
}}
"""
