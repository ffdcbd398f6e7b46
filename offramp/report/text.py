"""Numbers and sentences for people, shared by the report, the command line and the demo."""

from __future__ import annotations

from offramp.compiler.manifest import Manifest, MemoryMap, PatchEntry, RealLayer

MOST_NAMED = 5
"""Layers in a sentence."""


def saving(manifest: Manifest) -> float:
    """Fraction of the multiply-accumulates that the exits save on average."""
    static = manifest.static_cost.macs
    return 1.0 - manifest.expected_cost.macs / static if static else 0.0


def summary(manifest: Manifest) -> str:
    """What the certificate says, or why there is none, in a sentence."""
    certificate = manifest.certificate
    if certificate is None:
        return f"Nothing was certified: {manifest.reason or 'no exits were asked for'}."
    risk = "accuracy drop" if certificate.risk == "drop" else "rate of answers spoilt by exits"
    against = "labels" if certificate.reference == "labels" else "the full network's answers"
    return (
        f"With {100 * certificate.confidence:g} % confidence, the {risk} is at most "
        f"{certificate.bound:.2f} points (budget {certificate.budget:g}), judged against {against} "
        f"on {certificate.samples:,} samples that chose nothing. This speaks for the population "
        "that these samples came from."
    )


def access_text(memory: MemoryMap) -> str:
    """What the choice of memories costs, in a sentence; empty where there was none."""
    access = memory.access
    if access is None:
        return ""
    proof = "no other choice of memories takes fewer"
    if access.status != "optimal":
        proof = f"no choice of memories takes fewer than {access.lower_bound:,.0f}"
    return (
        f"Loads and stores take {access.cycles:,.0f} cycles where nothing is cached, on average; "
        f"{proof}."
    )


def patches_text(patches: PatchEntry) -> str:
    """What the bands cost and save, in a sentence."""
    return (
        f"The layers up to {patches.end} are computed in {patches.bands} bands of rows, with "
        f"{percent_text(patches.macs)} more MACs in the first block: {bytes_text(patches.arena)} "
        f"of arena instead of {bytes_text(patches.arena_before)}."
    )


def real_layers_text(layers: tuple[RealLayer, ...]) -> str:
    """Which quantised layers take real numbers, and why, in a sentence."""
    named = [f"{layer.layer} ({layer.reason})" for layer in layers[:MOST_NAMED]]
    more = len(layers) - len(named)
    rest = f" and {more} more" if more else ""
    return f"Quantised, but computed on real numbers: {', '.join(named)}{rest}."


def count_text(value: float) -> str:
    """A count with a metric suffix: 12.5 M."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.4g}"


def bytes_text(value: float) -> str:
    """Bytes in the unit that fits: 52.1 KiB."""
    for limit, suffix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= limit:
            return f"{value / limit:.1f} {suffix}"
    return f"{value:.0f} B"


def percent_text(fraction: float) -> str:
    """A fraction as a percentage."""
    return f"{100 * fraction:.1f} %"


def cost_text(value: float, unit: str) -> str:
    """A predicted cost in the target's unit; times in microseconds."""
    return f"{value / 1000:,.1f} µs" if unit == "ns" else count_text(value)
