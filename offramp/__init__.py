"""offramp: a compiler for dynamic networks. Attributes load lazily, so that importing is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offramp import passes
    from offramp.api import Artifact, compile, from_onnx, from_torch, load
    from offramp.compiler.errors import (
        InternalError,
        OfframpError,
        ToolError,
        UnsupportedError,
        UserError,
    )
    from offramp.measure import Result

__all__ = [
    "Artifact",
    "InternalError",
    "OfframpError",
    "Result",
    "ToolError",
    "UnsupportedError",
    "UserError",
    "compile",
    "from_onnx",
    "from_torch",
    "load",
    "passes",
]

_HOMES = {
    "InternalError": "offramp.compiler.errors",
    "OfframpError": "offramp.compiler.errors",
    "Result": "offramp.measure",
    "ToolError": "offramp.compiler.errors",
    "UnsupportedError": "offramp.compiler.errors",
    "UserError": "offramp.compiler.errors",
}
"""Where public names live that are not in `offramp.api`."""


def __getattr__(name: str) -> Any:
    """Load a public attribute when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'offramp' has no attribute {name!r}")
    if name == "passes":
        return import_module("offramp.passes")
    return getattr(import_module(_HOMES.get(name, "offramp.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
