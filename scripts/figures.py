"""Draw the README's picture from a compiled artifact: where samples leave, and what that costs.

make figures        # from the artifact that `make demo` leaves in demo/cortex-m7
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

from offramp.compiler import artifact
from offramp.compiler.manifest import Manifest
from offramp.report.text import count_text, percent_text, saving

ROOT = Path(__file__).resolve().parent.parent
INSIDE, SAVED, LEAVE, INK = "#3b6fb6", "#e7ebf0", "#c65d21", "#1b2430"


def draw_staircase(axes: Any, manifest: Manifest) -> None:
    """Samples still inside (y) over work along the network (x): area is expected cost."""
    static = manifest.static_cost.macs
    full = manifest.exits[-1].macs
    axes.fill_between([0, static], 1, color=SAVED, lw=0, label="the network without exits")
    left, inside = 0, 1.0
    for index, entry in enumerate(manifest.exits):
        label = "what is computed with exits" if index == 0 else None
        axes.fill_between([left, entry.macs], inside, color=INSIDE, lw=0, alpha=0.85, label=label)
        left, inside = entry.macs, inside - entry.rate
        if entry.criterion is not None:
            text = f"exit {index}: {percent_text(entry.rate)} leave"
            axes.annotate(
                text, (entry.macs, inside + entry.rate / 2), (8, 0), textcoords="offset points",
                color=LEAVE, va="center", fontsize=9, weight="bold",
            )  # fmt: skip
            axes.plot([entry.macs] * 2, [inside, inside + entry.rate], color=LEAVE, lw=3)
    axes.set(
        xlim=(0, max(full, static)), ylim=(0, 1.0), xlabel="multiply-accumulates along the network"
    )
    axes.set_ylabel("samples still inside")
    axes.xaxis.set_major_formatter(lambda value, _: count_text(value))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(loc="upper right", facecolor="white", framealpha=1.0, fontsize=8)
    axes.set_title(f"{percent_text(saving(manifest))} of the work saved on average", loc="left")


def draw_curve(axes: Any, manifest: Manifest) -> None:
    """Points lost over expected cost, with budget and certified bound."""
    static = manifest.static_cost.macs
    points = sorted(manifest.curve, key=lambda point: point.macs)
    x = [100 * point.macs / static for point in points]
    axes.plot(x, [point.drop for point in points], ".-", color=INSIDE, lw=1, ms=4, label="observed")
    bounded = [(100 * p.macs / static, p.bound) for p in points if p.bound is not None]
    if bounded:
        axes.plot(*zip(*bounded, strict=True), color=LEAVE, lw=1, label="upper bound")
    for point in (point for point in points if point.chosen):
        axes.plot(100 * point.macs / static, point.drop, "o", color=LEAVE, ms=9, label="chosen")
    if manifest.certificate is not None:
        budget = manifest.certificate.budget
        axes.axhline(budget, color=INK, ls="--", lw=1)
        axes.annotate("budget", (axes.get_xlim()[1], budget), (-4, 3), ha="right",
                      textcoords="offset points", fontsize=8)  # fmt: skip
        confidence = 100 * manifest.certificate.confidence
        axes.set_title(f"certified with {confidence:g} % confidence", loc="left")
    axes.set(xlabel="expected MACs, % of the full network", ylabel="accuracy points lost")
    axes.legend(frameon=False, fontsize=8)


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artifact", type=Path, nargs="?", default=ROOT / "demo" / "cortex-m7")
    parser.add_argument("-o", type=Path, default=ROOT / "docs" / "figures" / "exits.svg")
    arguments = parser.parse_args()
    manifest = artifact.read(arguments.artifact)
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    mpl.rcParams["svg.hashsalt"] = "offramp"  # the same artifact gives the same file
    figure, (staircase, curve) = plt.subplots(
        1, 2, figsize=(9.2, 3.3), width_ratios=(3, 2), layout="constrained"
    )
    draw_staircase(staircase, manifest)
    draw_curve(curve, manifest)
    figure.savefig(arguments.o, facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
