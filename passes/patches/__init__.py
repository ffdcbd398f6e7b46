"""Patch-based execution: the first layers of a network are computed band by band of rows.

The idea of Lin et al., "MCUNetV2: Memory-Efficient Patch-based Inference for Tiny Deep Learning"
(2021). The first activations of a network are the largest; of a band only a few rows of each are in
use at a time, at the price of computing the rows twice that two bands need.
"""

from offramp.passes.patches.choose import Choice, choose_patches
from offramp.passes.patches.insert import InsertPatches

__all__ = ["Choice", "InsertPatches", "choose_patches"]
