"""What every layer of an artifact costs: work, instructions, memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from offramp.backends.base import Bench
from offramp.backends.driver.interface import Interface
from offramp.compiler.manifest import Manifest, MemoryMap


@dataclass(frozen=True)
class LayerCost:
    """One kernel call.

    layer: of which kernel, without the network's name. nodes: the ONNX nodes computed here.
    value: cost of one call in the target's unit; None where only whole blocks are measured. Calls
        of one kernel do the same work and count alike.
    ram: bytes of the arena in use while it runs, scratch included. weights: bytes read.
    """

    block: str
    layer: str
    nodes: tuple[str, ...]
    macs: int
    value: float | None
    ram: int
    weights: int


def layer_costs(manifest: Manifest, interface: Interface, measured: Bench) -> list[LayerCost]:
    """All kernel calls in the order of the blocks."""
    calls = Counter(layer.kernel for layer in interface.layers)
    used = _arena_in_use(manifest.memory)
    found: list[LayerCost] = []
    for layer, ram in zip(interface.layers, used, strict=True):
        total = measured.kernels.get(layer.kernel)
        found.append(
            LayerCost(
                block=layer.block,
                layer=layer.kernel.removeprefix(f"{manifest.name}_"),
                nodes=layer.nodes,
                macs=layer.macs,
                value=None if total is None else total / calls[layer.kernel],
                ram=ram,
                weights=layer.weights,
            )
        )
    return found


def _arena_in_use(memory: MemoryMap) -> list[int]:
    """Bytes alive in each step that is a kernel call."""
    calls = [step for step, label in enumerate(memory.steps) if not label.endswith(": end")]
    return [
        sum(entry.size for entry in memory.buffers if entry.first <= step <= entry.last)
        for step in calls
    ]
