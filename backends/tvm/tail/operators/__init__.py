"""Lowerings of our own: operators that TVM's importer lacks or gets wrong."""

from __future__ import annotations

from offramp.backends.tvm.tail.operators.context import Lowering, OperatorCall

LOWERINGS: dict[tuple[str, str], Lowering] = {}
"""By domain and operator."""

__all__ = ["LOWERINGS", "Lowering", "OperatorCall"]
