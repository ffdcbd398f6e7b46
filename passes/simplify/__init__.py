"""Clean a Program up: one rewrite per file, its algebra in its docstring."""

from __future__ import annotations

from offramp.passes.base import Pass, PerBlock, Pipeline
from offramp.passes.simplify.eliminate_no_ops import EliminateNoOps
from offramp.passes.simplify.fold_constants import FoldConstants
from offramp.passes.simplify.fuse_batch_norm import FuseBatchNorm
from offramp.passes.simplify.fuse_bias import FuseConvBias, MatMulToGemm
from offramp.passes.simplify.fuse_pad import FusePad
from offramp.passes.simplify.merge_views import MergeReshapes, MergeTransposes
from offramp.passes.simplify.signed_integers import SignedIntegers
from offramp.passes.simplify.sink_constants import SinkDequantised

__all__ = [
    "EliminateNoOps",
    "FoldConstants",
    "FuseBatchNorm",
    "FuseConvBias",
    "FusePad",
    "MatMulToGemm",
    "MergeReshapes",
    "MergeTransposes",
    "SignedIntegers",
    "SinkDequantised",
    "simplification",
    "simplify",
]


def simplification() -> tuple[Pass, ...]:
    """The passes of `simplify`, in order; each has a name of its own."""
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass

    return (
        FoldConstants(),
        PerBlock(CommonSubexpressionEliminationPass()),
        MergeReshapes(),
        MergeTransposes(),
        EliminateNoOps(),
        FusePad(),
        FuseConvBias(),
        MatMulToGemm(),
        FuseBatchNorm(),
        PerBlock(RemoveUnusedNodesPass()),
        SignedIntegers(),
        SinkDequantised(),
    )


def simplify() -> Pipeline:
    """What every target wants done first: fewer nodes, the same answers."""
    return Pipeline(simplification())
