"""Geometry of the two charts: the accuracy-cost curve and the memory map over time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from offramp.compiler.manifest import CurvePoint, Manifest, MemoryMap


@dataclass(frozen=True)
class Axis:
    """A linear axis from data to pixels, with ticks at round values."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5, *, binary: bool = False) -> list[float]:
        """About `count` values within the axis, round in decimal or in binary."""
        rough = (self.high - self.low) / count
        base, factors = (2.0, (1, 2)) if binary else (10.0, (1, 2, 5, 10))
        magnitude = base ** math.floor(math.log(rough, base))
        step = next(m * magnitude for m in factors if m * magnitude >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


@dataclass(frozen=True)
class Mark:
    """A point of the curve in pixels; `bound_y` is the end of its whisker, if a bound is known."""

    x: float
    y: float
    bound_y: float | None
    chosen: bool
    text: str


@dataclass(frozen=True)
class Curve:
    """Expected MACs in percent of the full network (x) against points lost (y).

    marks: in the order in which they are drawn, the chosen one last. line, bound_line: SVG points.
    """

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    line: str
    bound_line: str
    budget_y: float | None
    width: float = 560.0
    height: float = 320.0


def curve(manifest: Manifest) -> Curve | None:
    """The accuracy-cost curve; None where no policy was tried."""
    if not manifest.curve:
        return None
    static = manifest.static_cost.macs
    budget = manifest.certificate.budget if manifest.certificate else None
    heights = [0.0, budget or 0.0]
    for point in manifest.curve:
        heights += [point.drop, point.bound if point.bound is not None else point.drop]
    pad = 0.08 * max(max(heights) - min(heights), 0.5)
    x = Axis(0.0, max(100.0, *(100 * p.macs / static for p in manifest.curve)), 60.0, 540.0)
    y = Axis(min(heights) - pad, max(heights) + pad, 270.0, 20.0)
    ordered = sorted(manifest.curve, key=lambda point: point.macs)
    marks = tuple(_mark(point, static, x, y) for point in ordered)
    line = " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in marks)
    bounds = " ".join(f"{m.x:.1f},{m.bound_y:.1f}" for m in marks if m.bound_y is not None)
    on_top = tuple(sorted(marks, key=lambda mark: mark.chosen))
    return Curve(x, y, on_top, line, bounds, None if budget is None else y.at(budget))


def _mark(point: CurvePoint, static: float, x: Axis, y: Axis) -> Mark:
    percent = 100 * point.macs / static
    text = f"{point.label}: {percent:.1f} % of the MACs, {point.drop:+.2f} points lost"
    if point.bound is not None:
        text += f", at most {point.bound:.2f} with confidence"
    bound_y = None if point.bound is None else y.at(point.bound)
    return Mark(x.at(percent), y.at(point.drop), bound_y, point.chosen, text)


@dataclass(frozen=True)
class Bar:
    """One buffer in the memory map, in pixels; `hue` in degrees tells neighbours apart."""

    x: float
    y: float
    width: float
    height: float
    hue: int
    text: str


@dataclass(frozen=True)
class MemoryChart:
    """Arena addresses (y, upwards) over kernel calls (x); `live` is bytes in use per step."""

    y: Axis
    bars: tuple[Bar, ...]
    steps: tuple[str, ...]
    live: tuple[int, ...]
    step_width: float
    peak: int
    left: float = 76.0
    width: float = 860.0
    height: float = 320.0


def memory_chart(memory: MemoryMap) -> MemoryChart | None:
    """The memory map; None for a network that needs no arena."""
    if not memory.buffers:
        return None
    left, right = 76.0, 850.0
    count = max(len(memory.steps), 1)
    step_width = (right - left) / count
    y = Axis(0.0, float(max(memory.peak, 1)), 280.0, 16.0)
    bars: list[Bar] = []
    live = [0] * count
    for i, buffer in enumerate(memory.buffers):
        for step in range(buffer.first, buffer.last + 1):
            live[step] += buffer.size
        top = y.at(buffer.offset + buffer.size)
        bars.append(
            Bar(
                x=left + buffer.first * step_width,
                y=top,
                width=(buffer.last - buffer.first + 1) * step_width,
                height=max(y.at(buffer.offset) - top, 0.5),
                hue=180 + i * 67 % 110,
                text=f"{buffer.name}: {buffer.size:,} bytes at {buffer.offset:,}",
            )
        )
    return MemoryChart(y, tuple(bars), memory.steps, tuple(live), step_width, memory.peak)
