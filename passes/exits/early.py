"""Heads that answer part of the way through another head, and share its layers up to there.

A large head early in the network is a network of its own, and easy samples need not go through all
of it. Where a sample goes on, such an answer has cost it only the few layers beside the trunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from offramp.cost_models.base import CostModel
from offramp.passes.exits.candidates import Point, points_along
from offramp.passes.exits.heads import HeadBuilder, HeadGraph

FRACTION = 0.06
"""Fraction of the trunk's cost that the layers beside it may add."""

WIDTHS = (128, 96, 64, 48, 32, 24, 16, 8)
"""Channels at the end of an early answer that are tried, widest first."""

SMALLEST = 4
"""Resolution down to which an early answer halves it."""

SPACING = 0.2
"""Early answers are at least this fraction of the trunk's cost apart."""

LATEST = 0.8
"""Fraction of the trunk's cost after which no early answer saves enough."""


def early_heads(
    trunk: HeadGraph,
    classes: int,
    opsets: Mapping[str, int],
    *,
    model: CostModel,
    rng: np.random.Generator,
) -> list[HeadGraph]:
    """Early answers of a head, in the order of computation; named `trunk/1`, `trunk/2` and so on.

    Each goes on from a tensor that dominates the trunk's logits, with separable convolutions where
    that is a feature map and they can be as wide, with a pooled linear layer elsewhere.

    Args:
        trunk: a head of several layers.
        classes: number of logits.
        opsets: of the Program.
        model: what costs are counted in.
        rng: draws the initial weights.
    """
    found: list[HeadGraph] = []
    for number, inner in enumerate(_inner_points(trunk, model), start=1):
        start = partial(
            HeadBuilder, trunk.point, opsets, rng, trunk=(trunk, inner), prefix=f"early{number}"
        )
        most = inner.spent.value + FRACTION * trunk.cost(model).value
        head = _convolutional(start, classes, model, most) or _pooled(start(), classes)
        found.append(replace(head, name=f"{trunk.name}/{number}"))
    return found


def _inner_points(trunk: HeadGraph, model: CostModel) -> list[Point]:
    whole = trunk.cost(model).value
    found: list[Point] = []
    for inner in points_along([trunk.feature], list(trunk.nodes), trunk.logits, model):
        before = found[-1].spent.value if found else 0.0
        far_enough = inner.spent.value - before >= SPACING * whole
        if far_enough and inner.spent.value <= LATEST * whole:
            found.append(inner)
    return found


def _convolutional(
    start: Callable[[], HeadBuilder], classes: int, model: CostModel, most: float
) -> HeadGraph | None:
    """The widest that costs no more than `most`; None if it would be narrower than the trunk."""
    for width in WIDTHS:
        build = start()
        if len(build.size) != 2 or width < build.channels:
            return None
        _taper(build, width)
        head = _pooled(build, classes)
        if head.cost(model).value <= most:
            return head
    return None


def _taper(build: HeadBuilder, width: int) -> None:
    """Separable layers that halve the resolution and double the channels up to `width`, and one
    more: what space is lost at each step, classes need as channels."""
    halvings = 0
    while min(build.size) >> (halvings + 1) >= SMALLEST:
        halvings += 1
    for left in reversed(range(halvings)):
        build.separable(max(width >> left, build.channels), 2)
    build.separable(width)


def _pooled(build: HeadBuilder, classes: int) -> HeadGraph:
    build.pool()
    build.dense(classes)
    return build.finish("early")
