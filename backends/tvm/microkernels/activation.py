"""What a microkernel does with its sums before it stores them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

_TWO, _SIX = 0x40000000, 0x40C00000
"""The bits of 2.0 and 6.0; an instruction can hold the first and the difference."""


class Activation(Enum):
    """The activations that take one or two instructions a value."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_OF_BITS = "relu_of_bits"
    RELU6_OF_BITS = "relu6_of_bits"
    """The same for units without an instruction for the maximum of two numbers: a positive number
    is as an integer what it is as a number, only smaller or larger."""

    @property
    def suffix(self) -> str:
        """What it adds to a function's name."""
        return "" if self is Activation.NONE else f"_{self.value}"

    def in_c(self, value: str) -> str:
        """The activation of a C expression."""
        if self is Activation.NONE:
            return value
        clamped = f"fmaxf({value}, 0.0f)"
        has_no_top = self in (Activation.RELU, Activation.RELU_OF_BITS)
        return clamped if has_no_top else f"fminf({clamped}, 6.0f)"

    def without_maximum(self) -> Activation:
        """The same activation for a unit without that instruction."""
        others = {
            Activation.RELU: Activation.RELU_OF_BITS,
            Activation.RELU6: Activation.RELU6_OF_BITS,
        }
        return others.get(self, self)

    def in_assembly(self, count: int, scratch: str) -> Iterator[str]:
        """The activation of s0 to s(count - 1); overwrites `scratch` and s(count)."""
        if self is Activation.NONE:
            return
        if self in (Activation.RELU_OF_BITS, Activation.RELU6_OF_BITS):
            for i in range(count):
                yield f"vmov {scratch}, s{i}"
                yield f"bic {scratch}, {scratch}, {scratch}, asr #31"
                if self is Activation.RELU6_OF_BITS:
                    yield f"sub {scratch}, {scratch}, #{_TWO}"
                    yield f"cmp {scratch}, #{_SIX - _TWO}"
                    yield "it gt"
                    yield f"movgt {scratch}, #{_SIX - _TWO}"
                    yield f"add {scratch}, {scratch}, #{_TWO}"
                yield f"vmov s{i}, {scratch}"
            return
        yield f"mov {scratch}, #0"
        yield f"vmov s{count}, {scratch}"
        yield from (f"vmaxnm.f32 s{i}, s{i}, s{count}" for i in range(count))
        if self is Activation.RELU6:
            yield f"vmov.f32 s{count}, #6.0"
            yield from (f"vminnm.f32 s{i}, s{i}, s{count}" for i in range(count))
