"""Targets: how code is emitted, built, run and measured, one folder each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from offramp.compiler.errors import UserError

if TYPE_CHECKING:
    from offramp.backends.base import Backend

_BACKENDS = {
    "x86-64": "offramp.backends.x86_64",
    "cortex-m4": "offramp.backends.cortex_m",
    "cortex-m7": "offramp.backends.cortex_m",
    "cortex-m55": "offramp.backends.cortex_m",
    "riscv32": "offramp.backends.riscv",
}


def get(target: str) -> Backend:
    """The backend of a target; its package is imported only now.

    Raises:
        UserError: no code can be emitted for this target.
    """
    if target not in _BACKENDS:
        known = ", ".join(_BACKENDS)
        raise UserError(f"no code can be emitted for target {target!r}: expected one of {known}")
    backend: Backend = import_module(_BACKENDS[target]).BACKEND
    return backend
