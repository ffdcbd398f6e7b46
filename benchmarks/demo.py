"""The main job on bundled data: handwritten digits, a PC and a Cortex-M7, a certified budget.

Trains a small convolutional network on scikit-learn's digits in seconds, exports it to ONNX,
compiles it for both targets with a budget of 3 points, runs both artifacts on samples that nothing
has seen, and prints what came out. Everything is kept in `demo/`, so a second run only runs.

    make demo
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

import offramp
from offramp.report.text import bytes_text, count_text, percent_text, saving, summary

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {"x86-64": ("gcc",), "cortex-m7": ("arm-none-eabi-gcc", "qemu-system-arm")}
"""With the programs that each needs; `make demo` installs them where it may."""
BUDGET_POINTS = 3.0
SEED = 0
SPLIT = 1
"""Seed of the search. Of the first few it is one whose split gives both targets an exit, as a
demonstration should; with 0 the samples certify no more than a network cut short."""
EPOCHS = 25
TRAIN, CALIBRATION = 800, 600
"""Of 1,797 samples; the remaining 397 are unseen until the end."""

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """8x8 images of digits, [N, 1, 8, 8] with values 0 to 1, in three disjoint parts."""

    train: tuple[Images, Labels]
    calibration: tuple[Images, Labels]
    unseen: tuple[Images, Labels]


def load_digits() -> Digits:
    """The bundled digits, shuffled and split."""
    from sklearn.datasets import load_digits as bundled

    data: Any = bundled()
    order = np.random.default_rng(SEED).permutation(len(data.target))
    x = (data.images[order, None] / 16.0).astype(np.float32)
    y = data.target[order].astype(np.int64)
    first, second = TRAIN, TRAIN + CALIBRATION
    return Digits(
        (x[:first], y[:first]), (x[first:second], y[first:second]), (x[second:], y[second:])
    )


def build_network() -> Any:
    """A plain convolutional classifier of about 2 M multiply-accumulates."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    widths = (1, 16, 32, 32, 64, 64)
    for i, (inside, outside) in enumerate(pairwise(widths)):
        stride = 2 if i == 3 else 1
        layers += [
            nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def train_network(x: Images, y: Labels) -> Any:
    """Train for a few seconds; the network in evaluation mode."""
    import torch

    network = build_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-2, total_steps=EPOCHS * (len(x) // 50)
    )
    generator = torch.Generator().manual_seed(SEED)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(50):
            loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def export(network: Any, path: Path) -> None:
    """Write the network as ONNX with a free batch dimension."""
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of optional packages
    warnings.simplefilter("ignore", FutureWarning)  # torch's own, about torch's own calls
    example = torch.zeros(2, 1, 8, 8)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        network, (example,), dynamo=True, dynamic_shapes=shapes, input_names=["image"],
        output_names=["logits"], verbose=False,
    )  # fmt: skip
    assert program is not None  # noqa: S101 - a typing fact: dynamo=True always returns one
    program.save(path)


def accuracy(logits: npt.NDArray[Any], labels: Labels) -> float:
    """Fraction of samples whose largest logit is the label's."""
    return float(np.mean(logits.argmax(1) == labels))


def full_accuracy(model: Path, x: Images, y: Labels) -> float:
    """Accuracy of the network without exits, by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return accuracy(np.asarray(session.run(None, {"image": x})[0]), y)


def prepare(folder: Path, digits: Digits, console: Console) -> Path:
    """The trained network as an ONNX file, from an earlier run if there is one."""
    model = folder / "digits.onnx"
    if not model.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with console.status("training a small network"):
            export(train_network(*digits.train), model)
    return model


def compiled(model: Path, target: str, digits: Digits, console: Console) -> offramp.Artifact:
    """The artifact for one target, from an earlier run if there is one."""
    folder = model.parent / target
    if (folder / "manifest.json").exists():
        return offramp.load(folder)
    with console.status(f"compiling for {target}"):
        return offramp.compile(
            model,
            target=target,
            output=folder,
            train=digits.train,
            calibration=digits.calibration,
            accuracy_drop=BUDGET_POINTS,
            seed=SPLIT,
        )


def show(artifact: offramp.Artifact, full: float, digits: Digits, console: Console) -> None:
    """Run one artifact on unseen samples and print the table."""
    x, y = digits.unseen
    result = artifact.run(x)
    manifest = artifact.manifest
    correct = result.outputs["logits"].argmax(1) == y
    table = Table("exit", title=f"{manifest.target}: {len(x)} unseen samples", title_justify="left")
    for heading in ("leave here", "accuracy", "MACs", f"cost ({manifest.static_cost.unit})"):
        table.add_column(heading, justify="right")
    for index, entry in enumerate(manifest.exits):
        here = result.exit_index == index
        cost = f"{result.cost[here].mean():,.0f}" if here.any() else "-"
        right = percent_text(float(correct[here].mean())) if here.any() else "-"
        name = "final" if entry.criterion is None else f"{index} ({entry.criterion})"
        table.add_row(name, percent_text(float(here.mean())), right, count_text(entry.macs), cost)
    table.add_row(
        "all", "100 %", percent_text(float(correct.mean())),
        count_text(float(np.mean([manifest.exits[i].macs for i in result.exit_index]))),
        f"{result.cost.mean():,.0f}",
        style="bold",
    )  # fmt: skip
    console.print(table)
    console.print(
        f"  without exits {percent_text(full)} at {count_text(manifest.static_cost.macs)} MACs; "
        f"{percent_text(saving(manifest))} saved; {bytes_text(manifest.memory.peak)} of activations"
    )
    console.print(f"  {summary(manifest)}")
    console.print(f"  report: {artifact.folder / 'report.html'}\n")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=ROOT / "demo")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    start = time.perf_counter()
    digits = load_digits()
    model = prepare(arguments.folder, digits, console)
    full = full_accuracy(model, *digits.unseen)
    for target, tools in TARGETS.items():
        missing = [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            console.print(f"[yellow]{target} skipped: {', '.join(missing)} not installed[/yellow]")
            continue
        show(compiled(model, target, digits, console), full, digits, console)
    console.print(f"{time.perf_counter() - start:.1f} seconds")


if __name__ == "__main__":
    main()
