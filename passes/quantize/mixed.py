"""How many bits each tensor takes: as few bytes as good enough answers need.

Layers differ in how much the network's output suffers when their weights get coarse, and tensors in
how much it gains when their activations get finer. These sensitivities, measured one at a time,
order them well enough (HAWQ, Dong et al. 2019, orders layers by curvature; QuantMCU, Liang et al.
2024, activations by what their values tell). First the activations that gain most for their bytes
take 16 bits, no more of them than the budget asks for, and none if 8 bits keep it; then the weights
that mind least take four, as many as it allows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program
from offramp.compiler.oracle import Oracle
from offramp.passes.quantize.insert import Quantize, watch
from offramp.passes.quantize.observe import Samples, Seen
from offramp.passes.quantize.sites import WEIGHTED, Site, given_scale, sites
from offramp.passes.simplify.rewriting import constant, static_shape

STEPS = 8
"""Kernels load as many narrow weights of a filter at a time: layers whose filters are no multiple
of it gain nothing."""

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judge:
    """Samples that say what coarse numbers cost.

    samples: by input name, [N, ...]. labels: int64 [N]; without them the float network's answers
    are the right ones. points: of accuracy that may be lost against the float network.
    """

    samples: Samples
    labels: npt.NDArray[np.int64] | None
    points: float


def choose_bits(
    program: Program,
    quantize: Quantize,
    judge: Judge,
    progress: Callable[[str], None] = lambda text: None,
) -> Quantize:
    """`quantize` with its tensors of 16 bits (`wide`) and layers with weights of 4 (`narrow`).

    Deterministic. Where even 16 bits everywhere lose more than the budget, all take them.

    Args:
        program: the float network; 16 bits are tried if its operator set is 21 or later.
        quantize: how ranges are taken; bits that it has chosen already are left out of account.
        judge: what answers are good enough.
        progress: is told now and then how far the search has come.

    Raises:
        UserError: the network does not answer with class scores.
    """
    _check(program)
    trials = _Trials(program, quantize, judge, watch(program, quantize.calibration, quantize.seed))
    chosen = replace(quantize, narrow=frozenset(), wide=frozenset())
    if trials.loses_too_much(chosen) and quantize.knows_wide(program):
        chosen = replace(chosen, wide=_wide(trials, chosen, progress))
    return replace(chosen, narrow=_narrow(trials, chosen, progress))


@dataclass
class _Trials:
    """Ways to quantise a network, judged by its answers."""

    program: Program
    quantize: Quantize
    judge: Judge
    seen: Mapping[str, Seen]

    def __post_init__(self) -> None:
        self.real = _answers(self.program, self.judge.samples)
        self.sites = sites(self.program.entry.graph)

    def answers(self, quantize: Quantize) -> Scores:
        """The scores of the network quantised in this way."""
        return _answers(quantize.with_ranges(self.program, self.seen), self.judge.samples)

    def loses_too_much(self, quantize: Quantize) -> bool:
        """Whether more points are lost than may be."""
        allowed = self.judge.points / 100 * len(self.real)
        return _lost(self.answers(quantize), self.real, self.judge.labels) > allowed


def _wide(trials: _Trials, base: Quantize, progress: Callable[[str], None]) -> frozenset[str]:
    """The shortest list of tensors in 16 bits that keeps the budget."""
    tensors = _tensors(trials.sites)
    before = _error(trials.answers(base), trials.real)
    gain: dict[str, float] = {}
    for number, value in enumerate(tensors):
        progress(f"which activations need 16 bits, {100 * number // len(tensors)} %")
        name = str(value.name)
        error = _error(trials.answers(replace(base, wide=frozenset([name]))), trials.real)
        gain[name] = (before - error) / prod(static_shape(value) or (1,))
    order = sorted(gain, key=lambda name: -gain[name])

    def is_enough(count: int) -> bool:
        return not trials.loses_too_much(replace(base, wide=frozenset(order[:count])))

    shortest = bisect_left(range(1, len(order) + 1), True, key=is_enough) + 1
    return frozenset(order[:shortest])


def _narrow(trials: _Trials, base: Quantize, progress: Callable[[str], None]) -> frozenset[str]:
    """The longest list of layers with weights of four bits that keeps the budget."""
    bytes_ = trials.answers(base)
    layers = [site for site in trials.sites if _gains(site)]
    harm: dict[str, float] = {}
    for number, site in enumerate(layers):
        progress(f"which weights need four bits only, {100 * number // len(layers)} %")
        found = trials.answers(replace(base, narrow=frozenset([site.name])))
        harm[site.name] = _error(found, bytes_) / _weights(site)
    order = sorted(harm, key=lambda name: harm[name])

    def loses_too_much(count: int) -> bool:
        return trials.loses_too_much(replace(base, narrow=frozenset(order[:count])))

    longest = bisect_left(range(1, len(order) + 1), True, key=loses_too_much)
    return frozenset(order[:longest])


def _tensors(found: Sequence[Site]) -> list[ir.Value]:
    """The tensors whose width can be chosen: maxima follow what they read."""
    following = {site.writes for site in found if site.keeps_scale}
    values = dict.fromkeys(value for site in found for value in (*site.reads, site.writes))
    return [value for value in values if value not in following and given_scale(value) is None]


def _check(program: Program) -> None:
    outputs = program.entry.operands(program.entry.terminator.operands)
    shape = static_shape(outputs[0]) if outputs else None
    if len(outputs) != 1 or shape is None or len(shape) != 2 or shape[1] < 2:
        raise UserError(
            f"cannot choose bits for {program.name!r}: what coarse weights cost is judged by class "
            f"scores [1, classes], found outputs {[static_shape(v) for v in outputs]}; quantise to "
            "int8 instead"
        )


def _answers(program: Program, samples: Samples) -> Scores:
    (scores,) = Oracle(program).run(samples).outputs.values()
    return scores.astype(np.float64)


def _error(found: Scores, expected: Scores) -> float:
    return float(np.square(found - expected).mean())


def _lost(found: Scores, real: Scores, labels: npt.NDArray[np.int64] | None) -> int:
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
