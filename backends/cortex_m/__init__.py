"""Arm Cortex-M: C sources with weights in flash, and support for an emulated board."""

from offramp.backends.cortex_m.backend import BACKEND

__all__ = ["BACKEND"]
