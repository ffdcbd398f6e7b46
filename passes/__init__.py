"""Transformations and plans of Programs, one per module; the common ones load from here lazily."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offramp.passes.base import BlockPass, Pass, PassResult, PerBlock, Pipeline
    from offramp.passes.exits.insert import ExitSpec, InsertExits
    from offramp.passes.patches.insert import InsertPatches
    from offramp.passes.quantize.inputs import IntegerInputs
    from offramp.passes.quantize.insert import Quantize

__all__ = [
    "BlockPass",
    "ExitSpec",
    "InsertExits",
    "InsertPatches",
    "IntegerInputs",
    "Pass",
    "PassResult",
    "PerBlock",
    "Pipeline",
    "Quantize",
]

_HOMES = {
    "ExitSpec": "offramp.passes.exits.insert",
    "InsertExits": "offramp.passes.exits.insert",
    "InsertPatches": "offramp.passes.patches.insert",
    "IntegerInputs": "offramp.passes.quantize.inputs",
    "Quantize": "offramp.passes.quantize.insert",
}
"""Where public names live that are not in `offramp.passes.base`."""


def __getattr__(name: str) -> Any:
    """Load a public attribute when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'offramp.passes' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "offramp.passes.base")), name)
