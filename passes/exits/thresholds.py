"""Paths of thresholds from cautious to bold, found on selection samples.

For each price of a lost answer, the best thresholds follow from optimal stopping: going backwards
from the last exit, a sample should go on where the answers saved are worth the cost of going on.
That gain is estimated as a function of the exit's score by isotonic regression (least-squares
continuation values, Longstaff & Schwartz 2001), so the rule is a threshold. Every
exit is believed to have lost one answer already among its surest: a handful of samples is no
evidence for a weak head.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offramp.passes.exits.policy import Observed

PRICES = np.geomspace(300.0, 0.3, 24)
"""Prices of a lost answer, relative to the cost of the full network."""

STEP = 0.6
"""Neighbouring settings differ by no more than this times the square root of the number of samples
at any exit. So few samples tell nothing about settings in between, and every further setting is
one more at which certification may stop by chance."""

Thresholds = npt.NDArray[np.float64]


def threshold_path(seen: Observed) -> Thresholds:
    """Settings in order of falling expected cost, [settings, exits]; minus infinity: all leave."""
    whole = seen.values()[-1]
    anchors = [_stopping_rule(seen, price * whole) for price in PRICES]
    ranks = _between(np.stack(anchors), len(seen.full))
    thresholds = np.stack(
        [_midway(seen.scores[k], ranks[:, k]) for k in range(len(seen.scores))], axis=1
    )
    thresholds = np.unique(thresholds, axis=0)
    costs = np.array([spent.value for spent in seen.expected(seen.taken(thresholds))])
    order = np.argsort(-costs, kind="stable")
    distinct = np.concatenate([[True], np.diff(costs[order]) < 0])
    return np.asarray(thresholds[order][distinct], np.float64)


def _stopping_rule(seen: Observed, price: float) -> npt.NDArray[np.int64]:
    """How many of the samples would leave at each exit if all came by, [exits]."""
    from scipy.optimize import isotonic_regression

    costs = seen.values()
    right, cost = seen.right[-1].astype(np.float64), np.full(seen.full.shape, costs[-1])
    leaving: list[int] = []
    for k in reversed(range(len(seen.scores))):
        order = np.argsort(-seen.scores[k], kind="stable")
        gain = price * (right - seen.right[k]) - (cost - costs[k])
        believed = np.concatenate([[price], gain[order]])
        smooth = isotonic_regression(believed, increasing=True).x[1:]
        count = int(np.searchsorted(smooth, 0.0, side="right"))
        stop = np.zeros(len(order), np.bool_)
        stop[order[:count]] = True
        right = np.where(stop, seen.right[k], right)
        cost = np.where(stop, costs[k], cost)
        leaving.append(count)
    return np.array(leaving[::-1], np.int64)


def _between(anchors: npt.NDArray[np.int64], samples: int) -> npt.NDArray[np.int64]:
    """Anchors with settings in between, starting where nobody leaves."""
    anchors = np.concatenate([np.zeros((1, anchors.shape[1]), np.int64), anchors])
    far = np.abs(np.diff(anchors, axis=0)).max(axis=1)
    steps = np.ceil(far / (STEP * np.sqrt(samples))).astype(np.int64)
    where = [i + np.arange(count) / count for i, count in enumerate(steps) if count]
    places = np.concatenate([*where, [float(len(steps))]])
    columns = [np.interp(places, np.arange(len(anchors)), column) for column in anchors.T]
    return np.asarray(np.rint(np.stack(columns, axis=1)), np.int64)


def _midway(
    scores: npt.NDArray[np.float32], leaving: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Thresholds that the `leaving` highest scores reach, midway between neighbours."""
    ordered = np.sort(scores.astype(np.float64))[::-1]
    middle = (ordered[:-1] + ordered[1:]) / 2
    table = np.concatenate([[np.inf], middle, [-np.inf]])
    return np.asarray(table[leaving], np.float64)
