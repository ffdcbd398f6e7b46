"""A linear model per kind of kernel, with coefficients from the target's description.

cost = per_mac * MACs + per_element * elements + per_call, summed over nodes, plus the driver's
`per_block`. Integer kernels have kinds of their own where a target has them; elsewhere a network in
QDQ form runs on real numbers. The coefficients in `compiler/targets/*.toml` are non-negative least
squares over kernels of the emitted code, measured by `benchmarks/fit_costs.py`.
"""

from __future__ import annotations

import onnx_ir as ir

from offramp.compiler.errors import InternalError
from offramp.compiler.ir import Block
from offramp.compiler.targets import Target
from offramp.cost_models.features import features


class AnalyticalModel:
    """Implements `CostModel` from the coefficients of one target; needs no measurement."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @property
    def unit(self) -> str:
        """The target's cost unit."""
        return self._target.cost_unit

    def node(self, node: ir.Node) -> float:
        """Cost of one node.

        Raises:
            UnsupportedError: a shape that the cost depends on is unknown.
        """
        found = features(node)
        kind = found.kind
        if found.integer is not None and "convert" in self._target.cost:
            kind = found.integer
        if kind == "free":
            return 0.0
        per = self._coefficients(kind)
        return (
            per.get("per_mac", 0.0) * found.macs
            + per.get("per_element", 0.0) * found.elements
            + per.get("per_call", 0.0)
        )

    def block(self, block: Block) -> float:
        """Cost of a block's nodes and of the driver's step to the next block."""
        return self._coefficients("driver")["per_block"] + sum(self.node(n) for n in block.graph)

    def _coefficients(self, kind: str) -> dict[str, float]:
        if kind not in self._target.cost:
            raise InternalError(
                f"target {self._target.name!r} has no cost coefficients for {kind!r} kernels: "
                f"add [cost.{kind}] to its description"
            )
        return self._target.cost[kind]
