"""A small classifier of scikit-learn's digits, trained in seconds, and its samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from offramp.compiler import targets
from offramp.compiler.frontends.torch import from_torch
from offramp.compiler.ir import Program
from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.backbone import Backbone
from offramp.passes.exits.task import Task, task_of

Images = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


class DigitNet(nn.Module):
    """Convolutions with a shortcut on [N, 1, 8, 8]; about 0.6 M MACs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.body = nn.ModuleList([nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)])
        self.wide = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.stem(image))
        for layer in self.body:
            x = torch.relu(x + layer(x))
        logits: Tensor = self.head(torch.relu(self.wide(x)).mean((2, 3)))
        return torch.softmax(logits, dim=1)


@dataclass(frozen=True)
class Digits:
    """The trained network and samples that it was not trained on."""

    program: Program
    images: Images
    labels: Classes

    @property
    def task(self) -> Task:
        return task_of(self.program)

    @property
    def backbone(self) -> Backbone:
        return Backbone(self.program, self.task)


@pytest.fixture(scope="session")
def digits() -> Digits:
    """A digit classifier at about 95 %, and 1,300 samples for exits."""
    pixels, target = load_digits(return_X_y=True)
    images = np.asarray(pixels / 16, np.float32).reshape(-1, 1, 8, 8)
    labels = np.asarray(target, np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    torch.manual_seed(0)
    net = DigitNet()
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    x, y = torch.from_numpy(images[:500]), torch.from_numpy(labels[:500])
    for _ in range(40):
        for start in range(0, 500, 100):
            log_probabilities = torch.log(net(x[start : start + 100]) + 1e-9)
            loss = F.nll_loss(log_probabilities, y[start : start + 100])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    program = from_torch(net.eval(), (x[:1],))
    return Digits(program, images[500:], labels[500:])


@pytest.fixture(scope="session")
def model() -> AnalyticalModel:
    """Costs on the microcontroller."""
    return AnalyticalModel(targets.get("cortex-m7"))
