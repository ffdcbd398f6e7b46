"""Memory-hungry networks in bands of rows: bytes of arena, multiply-accumulates, instructions.

MobileNetV2-0.35 with random weights (memory and work depend on the structure only), quantised after
training and with integer inputs, at several sizes of image; and the shared networks, whose rows are
written over those that are consumed already. Instructions are counted in the emulator of a
Cortex-M7, on one image of noise; answers with bands and without are compared byte by byte on two.
Writes a section of docs/results/memory.md.

    .venv/bin/python benchmarks/patches.py [--json] [--sizes N ...]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from exits_common import RESULTS, SHARED, table, write_section
from torch import Tensor, nn

import offramp
from offramp.report.text import percent_text

TARGET = "cortex-m7"
PERCENT = 20.0
WIDTH = 0.35
SIZES = (96, 144, 224)
SHARED_MODELS = ("vww_mbv1_int8", "ic_resnet8_int8")
STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, channels, blocks and stride, of Sandler et al., "MobileNetV2" (2018)."""
HEAD = (
    "network", "arena", "in bands", "bands", "more MACs", "instructions", "in bands", "code",
    "in bands", "s",
)  # fmt: skip


class Bottleneck(nn.Module):
    """Expansion, depthwise convolution, projection; and the input again, if it has that shape."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        layers = [*_layer(channels, inner, 1)] if expansion > 1 else []
        layers += _layer(inner, inner, 3, stride, groups=inner)
        layers += [nn.Conv2d(inner, filters, 1, bias=False), nn.BatchNorm2d(filters)]
        self.body = nn.Sequential(*layers)
        self.is_residual = stride == 1 and channels == filters

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        y: Tensor = self.body(x)
        return x + y if self.is_residual else y


def _layer(
    channels: int, filters: int, taps: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(channels, filters, taps, stride, taps // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(filters), nn.ReLU6()]


def mobilenet_v2(classes: int = 10) -> nn.Module:
    """The network, its channels times `WIDTH` in multiples of eight."""
    narrow = [max(8, int(c * WIDTH + 4) // 8 * 8) for c in (32, *(stage[1] for stage in STAGES))]
    layers, channels = _layer(3, narrow[0], 3, 2), narrow[0]
    for (expansion, _, blocks, stride), filters in zip(STAGES, narrow[1:], strict=True):
        for block in range(blocks):
            layers.append(Bottleneck(channels, filters, stride if block == 0 else 1, expansion))
            channels = filters
    layers += [*_layer(channels, 256, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(256, classes)).eval()


@dataclass(frozen=True)
class Row:
    """One network; bytes, and instructions of one inference. macs: relative, of those added.

    bands is 0 where none made the arena smaller; then both halves are equal.
    """

    network: str
    arena: tuple[int, int]
    bands: int
    macs: float
    instructions: tuple[float, float]
    code: tuple[int, int]
    seconds: float


def measure(name: str, model: Any, **options: Any) -> Row:
    """Compile with bands and without, compare and count."""
    whole = offramp.compile(model, target=TARGET, exits=False, **options)
    began = time.process_time()
    banded = offramp.compile(model, target=TARGET, exits=False, patches=PERCENT, **options)
    seconds = time.process_time() - began
    (spec,) = whole.manifest.inputs
    noise = np.random.default_rng(1).integers(-128, 128, (2, *spec.shape[1:])).astype(spec.dtype)
    for one, other in zip(
        whole.run(noise).outputs.values(), banded.run(noise).outputs.values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    costs = [artifact.bench()[0] for artifact in (whole, banded)]
    patches = banded.manifest.patches
    return Row(
        network=name,
        arena=(costs[0].ram.arena, costs[1].ram.arena),
        bands=0 if patches is None else patches.bands,
        macs=0.0 if patches is None else patches.macs,
        instructions=(costs[0].per_exit[-1].value, costs[1].per_exit[-1].value),
        code=(costs[0].flash.code, costs[1].flash.code),
        seconds=seconds,
    )


def _mobilenet(size: int) -> Row:
    torch.manual_seed(0)
    images = np.random.default_rng(0).normal(size=(8, 3, size, size)).astype(np.float32)
    return measure(
        f"MobileNetV2-{WIDTH}, {size} x {size}",
        mobilenet_v2(),
        example_inputs=(torch.zeros(1, 3, size, size),),
        quantize="int8",
        calibration=images,
        integer_inputs=True,
    )


def _cells(row: Row) -> list[str]:
    return [
        row.network,
        f"{row.arena[0]:,}",
        f"**{row.arena[1]:,}**" if row.bands else "-",
        str(row.bands) if row.bands else "-",
        percent_text(row.macs) if row.bands else "-",
        f"{row.instructions[0] / 1e6:.2f} M",
        f"{row.instructions[1] / 1e6:.2f} M" if row.bands else "-",
        f"{row.code[0]:,}",
        f"{row.code[1]:,}" if row.bands else "-",
        f"{row.seconds:.0f}",
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON and write nothing")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), metavar="N")
    options = parser.parse_args()
    rows = [measure(name, SHARED / "models" / f"{name}.onnx") for name in SHARED_MODELS]
    for size in options.sizes:
        rows.append(_mobilenet(size))
        if not options.json:
            print(*_cells(rows[-1]), sep="  ", flush=True)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    body = f"""
`python benchmarks/patches.py` ({platform.machine()}, one thread): bytes of arena, input and output
included, and instructions on a Cortex-M7, with whole images and with the bands that
`--patches {PERCENT:g}` chooses. Answers are the same bytes. Where there is a dash, no bands made
the arena smaller. Code in bytes; CPU seconds of the compilation with bands.

{table(HEAD, [_cells(row) for row in rows])}
"""
    if options.sizes == list(SIZES):
        write_section(RESULTS / "memory.md", "Bands of rows", body)
    print(body)


if __name__ == "__main__":
    main()
