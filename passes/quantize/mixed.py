"""Which layers' weights take four bits: as many bytes as the answers can spare.

Layers differ in how much the network's output suffers when their weights get coarse, and this
sensitivity, measured one layer at a time, orders them well enough (HAWQ, Dong et al. 2019, orders
them by curvature). The longest beginning of that order is taken whose answers are good enough.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program
from offramp.compiler.oracle import Oracle
from offramp.passes.quantize.insert import Quantize, watch
from offramp.passes.quantize.observe import Samples
from offramp.passes.quantize.sites import WEIGHTED, Site, sites
from offramp.passes.simplify.rewriting import constant, static_shape

STEPS = 8
"""Kernels load as many narrow weights of a filter at a time: layers whose filters are no multiple
of it gain nothing."""


@dataclass(frozen=True)
class Judge:
    """Samples that say what coarse weights cost.

    samples: by input name, [N, ...]. labels: int64 [N]; without them the float network's answers
    are the right ones. points: of accuracy that may be lost against the float network.
    """

    samples: Samples
    labels: npt.NDArray[np.int64] | None
    points: float


def choose_narrow(program: Program, quantize: Quantize, judge: Judge) -> frozenset[str]:
    """The layers (`Site.name`) whose weights take four bits.

    Deterministic. Without any layer the network loses what 8 bits cost, whatever the budget.

    Raises:
        UserError: the network does not answer with class scores.
    """
    _check(program)
    seen = watch(program, quantize.calibration, quantize.seed)

    def answers(names: Sequence[str]) -> npt.NDArray[np.float64]:
        chosen = replace(quantize, narrow=frozenset(names))
        return _answers(chosen.with_ranges(program, seen), judge.samples)

    real, bytes_ = _answers(program, judge.samples), answers([])
    layers = [site for site in sites(program.entry.graph) if _gains(site)]
    harm = {
        site.name: float(np.square(answers([site.name]) - bytes_).mean()) / _weights(site)
        for site in layers
    }
    order = sorted(harm, key=lambda name: harm[name])
    allowed = judge.points / 100 * len(real)

    def loses_too_much(count: int) -> bool:
        return count > 0 and _lost(answers(order[:count]), real, judge.labels) > allowed

    longest = bisect_left(range(1, len(order) + 1), True, key=loses_too_much)
    return frozenset(order[:longest])


def _check(program: Program) -> None:
    outputs = program.entry.operands(program.entry.terminator.operands)
    shape = static_shape(outputs[0]) if outputs else None
    if len(outputs) != 1 or shape is None or len(shape) != 2 or shape[1] < 2:
        raise UserError(
            f"cannot choose bits for {program.name!r}: what coarse weights cost is judged by class "
            f"scores [1, classes], found outputs {[static_shape(v) for v in outputs]}; quantise to "
            "int8 instead"
        )


def _answers(program: Program, samples: Samples) -> npt.NDArray[np.float64]:
    (scores,) = Oracle(program).run(samples).outputs.values()
    return scores.astype(np.float64)


def _lost(
    found: npt.NDArray[np.float64],
    real: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64] | None,
) -> int:
    """Right answers fewer than the float network gives."""
    if labels is None:
        return int((found.argmax(axis=1) != real.argmax(axis=1)).sum())
    right = [(scores.argmax(axis=1) == labels).sum() for scores in (real, found)]
    return int(right[0] - right[1])


def _gains(site: Site) -> bool:
    """Whether a kernel for narrow weights exists: an ungrouped layer, with filters of eights."""
    node = site.node
    is_whole = node.op_type in WEIGHTED and node.attributes.get_int("group", 1) == 1
    return is_whole and _weights(site) // _filters(site) % STEPS == 0


def _weights(site: Site) -> int:
    found: Any = constant(site.node.inputs[1])
    return int(found.size)


def _filters(site: Site) -> int:
    shape = static_shape(site.node.outputs[0]) or (1, 1)
    return prod(shape[1:2])
