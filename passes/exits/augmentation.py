"""Altered training samples; only alterations that the network itself does not mind.

Which alterations keep the meaning of a sample depends on the data: mirroring keeps an animal and
ruins a spectrogram. The full network is the judge: an alteration is used if its accuracy on altered
training samples (agreement with itself, without labels) falls by no more than `TOLERANCE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.passes.exits.backbone import Backbone, take, tensors
from offramp.passes.exits.result import Samples

TOLERANCE = 0.03
"""Largest fall in accuracy, as a fraction of samples."""

PROBES = 500
"""Training samples that alterations are tried on."""

FEW_CHANNELS = 4
"""A last axis of rank-4 inputs up to this length is taken for channels (NHWC)."""


@dataclass(frozen=True)
class Alteration:
    """A random change of a batch of maps [N, C, H, W], reproducible from the generator."""

    name: str
    apply: Callable[[Tensor, torch.Generator], Tensor]


def mirror(x: Tensor, generator: torch.Generator) -> Tensor:
    """Left and right swapped, for half of the samples."""
    swap = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(swap[:, None, None, None], x.flip(3), x)


def shift(rows: float, columns: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Moves by up to these fractions of the sides; the border is reflected."""

    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        count, channels, height, width = x.shape
        sides = ((rows, height), (columns, width))
        far = [_reach(fraction, side) for fraction, side in sides]
        padded = F.pad(x, (far[1], far[1], far[0], far[0]), mode="reflect")
        starts = [torch.randint(0, 2 * f + 1, (count, 1), generator=generator) for f in far]
        at_row = (starts[0] + torch.arange(height))[:, None, :, None]
        at_column = (starts[1] + torch.arange(width))[:, None, None, :]
        samples = torch.arange(count)[:, None, None, None]
        return padded[samples, torch.arange(channels)[None, :, None, None], at_row, at_column]

    return apply


def _reach(fraction: float, side: int) -> int:
    """Pixels to move by at most: at least one, if any, and no more than can be reflected."""
    return min(max(1, round(fraction * side)), side - 1) if fraction else 0


def noise(level: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Adds white noise of `level` times the standard deviation that each element shows."""

    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + level * x.std(0, keepdim=True) * torch.randn(x.shape, generator=generator)

    return apply


MIRROR = Alteration("mirror", mirror)

ALTERATIONS = (
    MIRROR,
    Alteration("shift 1/8", shift(1 / 8, 1 / 8)),
    Alteration("shift 1/16", shift(1 / 16, 1 / 16)),
    Alteration("shift rows 1/8", shift(1 / 8, 0)),
    Alteration("shift rows 1/16", shift(1 / 16, 0)),
    Alteration("noise 1/4", noise(0.25)),
    Alteration("noise 1/8", noise(0.125)),
)
"""In order of trial; of those of one kind (the first word), the first accepted is used."""


def accepted(
    backbone: Backbone, samples: Samples, labels: npt.NDArray[np.int64], seed: int
) -> tuple[Alteration, ...]:
    """Alterations that the network does not mind on the first training samples.

    Args:
        backbone: the full network.
        samples: training samples, at least one.
        labels: their classes, or the network's own answers.
        seed: of the alterations.
    """
    if not _is_map(samples):
        return ()
    probes, truth = tensors(take(samples, slice(PROBES))), labels[:PROBES]
    before = _accuracy(backbone, probes, truth)
    found: list[Alteration] = []
    for alteration in ALTERATIONS:
        kind = alteration.name.split()[0]
        if any(other.name.startswith(kind) for other in found):
            continue
        altered = alter(probes, (alteration,), torch.Generator().manual_seed(seed))
        if before - _accuracy(backbone, altered, truth) <= TOLERANCE:
            found.append(alteration)
    return tuple(found)


def alter(
    samples: dict[str, Tensor], alterations: tuple[Alteration, ...], generator: torch.Generator
) -> dict[str, Tensor]:
    """One altered copy of every sample; without alterations, the samples themselves."""

    def change(maps: Tensor) -> Tensor:
        for alteration in alterations:
            maps = alteration.apply(maps, generator)
        return maps

    return _on_maps(samples, change) if alterations else samples


def mirrored(samples: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every sample with left and right swapped."""
    return _on_maps(samples, lambda maps: maps.flip(3))


def _on_maps(samples: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The only input, changed in the layout [N, C, H, W]."""
    ((name, x),) = samples.items()
    if not x.shape[-1] <= FEW_CHANNELS < x.shape[1]:
        return {name: change(x).contiguous()}
    return {name: change(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()}


def _is_map(samples: Samples) -> bool:
    """Whether there is one float input of rank 4, counting the batch."""
    arrays = list(samples.values())
    return len(arrays) == 1 and arrays[0].ndim == 4 and arrays[0].dtype == np.float32


def _accuracy(
    backbone: Backbone, samples: dict[str, Tensor], truth: npt.NDArray[np.int64]
) -> float:
    answers = backbone.logits({name: x.numpy() for name, x in samples.items()})
    return float((answers.argmax(axis=1) == truth).mean())
