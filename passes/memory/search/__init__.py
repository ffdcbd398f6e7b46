"""Exact placement of buffers with plain lifetimes: proofs, or the best that the time allows."""

from offramp.passes.memory.search.instance import Buffer, Clique, Instance
from offramp.passes.memory.search.solve import Solution, solve

__all__ = ["Buffer", "Clique", "Instance", "Solution", "solve"]
