"""What a microkernel does with its sums before it stores them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum


class Activation(Enum):
    """The activations that take one or two instructions a value."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"

    @property
    def suffix(self) -> str:
        """What it adds to a function's name."""
        return "" if self is Activation.NONE else f"_{self.value}"

    def in_c(self, value: str) -> str:
        """The activation of a C expression."""
        if self is Activation.NONE:
            return value
        clamped = f"fmaxf({value}, 0.0f)"
        return clamped if self is Activation.RELU else f"fminf({clamped}, 6.0f)"

    def in_assembly(self, count: int, scratch: str) -> Iterator[str]:
        """The activation of s0 to s(count - 1); overwrites `scratch` and s(count)."""
        if self is Activation.NONE:
            return
        yield f"mov {scratch}, #0"
        yield f"vmov s{count}, {scratch}"
        yield from (f"vmaxnm.f32 s{i}, s{i}, s{count}" for i in range(count))
        if self is Activation.RELU6:
            yield f"vmov.f32 s{count}, #6.0"
            yield from (f"vminnm.f32 s{i}, s{i}, s{count}" for i in range(count))
