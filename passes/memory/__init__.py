"""Static memory planning: lifetimes, sharing, placement in one arena, and a check of the result."""

from offramp.passes.memory.plan import plan_memory

__all__ = ["plan_memory"]
