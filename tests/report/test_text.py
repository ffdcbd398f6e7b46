"""Sentences about a compilation."""

from __future__ import annotations

from offramp.compiler.manifest import RealLayer
from offramp.report.text import real_layers_text


def test_layers_on_real_numbers_are_named_but_not_endlessly() -> None:
    layers = tuple(RealLayer(f"conv_{i}", "too odd") for i in range(7))
    sentence = "Quantised, but computed on real numbers: conv_0 (too odd), conv_1 (too odd)"
    assert real_layers_text(layers[:2]) == f"{sentence}."
    assert real_layers_text(layers).startswith(sentence)
    assert real_layers_text(layers).endswith("conv_4 (too odd) and 2 more.")
