"""Linux on x86-64: a shared library with its header and a Python loader."""

from offramp.backends.x86_64.backend import BACKEND

__all__ = ["BACKEND"]
