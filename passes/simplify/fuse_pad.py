"""Fuse a Pad into the convolution that reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.passes.base import BlockPass
from offramp.passes.simplify.rewriting import constant, replace, sole_reader, static_shape


@dataclass(frozen=True)
class FusePad(BlockPass):
    """Conv(Pad(x, p, 0), w; q) = Conv(x, w; p + q).

    For zeros added to spatial axes only, by a Pad that nobody else reads: then no padded copy of
    the tensor is needed.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Fuse every such pair."""
        changed = False
        for pad in tuple(graph):
            conv = sole_reader(pad.outputs[0]) if pad.op_type == "Pad" else None
            added = None if conv is None or conv.op_type != "Conv" else _spatial_zeros(pad)
            own = None if conv is None or added is None else _own_pads(conv)
            if conv is None or added is None or own is None or conv.inputs[0] is not pad.outputs[0]:
                continue
            keep = [a for a in conv.attributes.values() if a.name not in ("pads", "auto_pad")]
            pads = ir.AttrInt64s("pads", [int(x) for x in added + own])
            replace(graph, conv, "Conv", [pad.inputs[0], *conv.inputs[1:]], [*keep, pads])
            graph.remove(pad, safe=True)
            changed = True
        return changed


def _spatial_zeros(pad: ir.Node) -> npt.NDArray[np.int64] | None:
    """Zeros added before and after each spatial axis, in Conv's order; None if not only that."""
    shape = static_shape(pad.inputs[0])
    mode = pad.attributes.get_string("mode", "constant")
    if shape is None or mode != "constant" or not _pads_with_zero(pad):
        return None
    pads = constant(pad.inputs[1])
    axes = constant(pad.inputs[3]) if len(pad.inputs) > 3 and pad.inputs[3] is not None else None
    if pads is None or (len(pad.inputs) > 3 and pad.inputs[3] is not None and axes is None):
        return None
    every = range(len(shape)) if axes is None else [int(a) % len(shape) for a in axes]
    full = np.zeros((2, len(shape)), np.int64)
    full[:, list(every)] = pads.reshape(2, -1)
    if full[:, :2].any() or (full < 0).any():
        return None
    return full[:, 2:].ravel()


def _pads_with_zero(pad: ir.Node) -> bool:
    if len(pad.inputs) < 3 or pad.inputs[2] is None:
        return True
    value = constant(pad.inputs[2])
    return value is not None and not value.any()


def _own_pads(conv: ir.Node) -> npt.NDArray[np.int64] | None:
    """What the convolution pads itself; None where that depends on its input's size."""
    shape = static_shape(conv.inputs[0])
    automatic = conv.attributes.get_string("auto_pad", "NOTSET")
    if shape is None or automatic not in ("NOTSET", "VALID"):
        return None
    attribute = conv.attributes.get("pads")
    if attribute is None or automatic == "VALID":
        return np.zeros(2 * (len(shape) - 2), np.int64)
    return np.array(attribute.as_ints(), np.int64)
