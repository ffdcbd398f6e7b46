"""Operators that move, select or repeat elements without computing on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.compiler.execute.constants import axes_of, integers, numbers, unsupported


def transpose(node: ir.Node, x: Tensor) -> Tensor:
    """Transpose; the axes are reversed by default."""
    return x.permute(*node.attributes.get_ints("perm", tuple(reversed(range(x.ndim)))))


def reshape(node: ir.Node, x: Tensor, shape: Tensor) -> Tensor:
    """Reshape: 0 copies the size of the input's axis, unless `allowzero`."""
    target = integers(node, shape)
    if not node.attributes.get_int("allowzero", 0):
        target = [x.shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    return x.reshape(target)


def flatten(node: ir.Node, x: Tensor) -> Tensor:
    """Flatten into a matrix at `axis`."""
    axis = node.attributes.get_int("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return x.reshape(rows, int(np.prod(x.shape[axis:], dtype=np.int64)))


def squeeze(node: ir.Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Squeeze the given axes, or all of size 1."""
    wanted = axes_of(node, axes)
    return x.squeeze() if wanted is None else x.squeeze(tuple(wanted))


def unsqueeze(node: ir.Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Unsqueeze: the axes count in the result."""
    wanted = axes_of(node, axes) or []
    rank = x.ndim + len(wanted)
    for axis in sorted(axis % rank for axis in wanted):
        x = x.unsqueeze(axis)
    return x


def concat(node: ir.Node, *operands: Tensor) -> Tensor:
    """Concat along one axis."""
    return torch.cat(operands, node.attributes.get_int("axis", 0))


def split(node: ir.Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """Split into parts of the given sizes, or into equal parts with a smaller last one."""
    axis = node.attributes.get_int("axis", 0)
    if sizes is not None:
        return torch.split(x, integers(node, sizes), axis)
    return torch.split(x, -(-x.shape[axis] // len(node.outputs)), axis)


def slice_axes(  # noqa: PLR0917 - the operands are ONNX's
    node: ir.Node,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Slice along several axes; positions outside an axis are clamped to it."""
    first, last = integers(node, starts), integers(node, ends)
    dims = list(range(len(first))) if axes is None else integers(node, axes)
    strides = [1] * len(first) if steps is None else integers(node, steps)
    for dim, start, end, step in zip(dims, first, last, strides, strict=True):
        picked = _positions(start, end, step, x.shape[dim])
        if step == 1:
            x = x.narrow(dim, picked.start, len(picked))
        else:
            x = x.index_select(dim, torch.tensor(picked, dtype=torch.int64, device=x.device))
    return x


def _positions(start: int, end: int, step: int, length: int) -> range:
    """ONNX clamps the start into the axis, where Python's slices would give nothing."""
    low, high = (0, length) if step > 0 else (-1, length - 1)
    start = start + length if start < 0 else start
    end = end + length if end < 0 else end
    return range(min(max(start, 0), high), min(max(end, low), high), step)


def gather(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    """Gather whole slices along one axis."""
    axis = node.attributes.get_int("axis", 0) % x.ndim
    positions = torch.where(indices < 0, indices + x.shape[axis], indices).to(torch.int64)
    picked = x.index_select(axis, positions.reshape(-1))
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def gather_elements(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    """GatherElements along one axis."""
    axis = node.attributes.get_int("axis", 0)
    positions = torch.where(indices < 0, indices + x.shape[axis], indices)
    return torch.gather(x, axis, positions.to(torch.int64))


def gather_nd(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    """GatherND: the last axis of `indices` holds positions on the leading axes of the input."""
    if node.attributes.get_int("batch_dims", 0):
        raise unsupported(node, "batch_dims other than 0")
    return x[tuple(indices.to(torch.int64).unbind(-1))]


def scatter_nd(node: ir.Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """ScatterND: slices of the input replaced, or added to."""
    reduce = node.attributes.get_string("reduction", "none")
    if reduce not in {"none", "add"}:
        raise unsupported(node, f"reduction {reduce}")
    positions = tuple(indices.to(torch.int64).unbind(-1))
    return torch.index_put(x, positions, updates, accumulate=reduce == "add")


def scatter_elements(node: ir.Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """ScatterElements along one axis."""
    axis = node.attributes.get_int("axis", 0)
    positions = torch.where(indices < 0, indices + x.shape[axis], indices).to(torch.int64)
    match node.attributes.get_string("reduction", "none"):
        case "none":
            return torch.scatter(x, axis, positions, updates)
        case "add":
            return torch.scatter_add(x, axis, positions, updates)
        case other:
            raise unsupported(node, f"reduction {other}")


def pad(
    node: ir.Node,
    x: Tensor,
    pads: Tensor,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """Pad with a constant, or by positions of the input (reflect, edge, wrap)."""
    amounts = integers(node, pads)
    dims = range(x.ndim) if axes is None else [a % x.ndim for a in integers(node, axes)]
    sides = dict(zip(dims, zip(*np.reshape(amounts, (2, -1)).tolist(), strict=True), strict=True))
    mode = node.attributes.get_string("mode", "constant")
    if mode == "constant":
        flat = [side for dim in reversed(range(x.ndim)) for side in sides.get(dim, (0, 0))]
        return F.pad(x, flat, value=0.0 if value is None else numbers(node, value)[0])
    for dim, (begin, end) in sides.items():
        if begin < 0 or end < 0:
            raise unsupported(node, f"negative pads in mode {mode}")
        positions = np.pad(np.arange(x.shape[dim]), (begin, end), mode=mode)  # type: ignore[call-overload]
        x = x.index_select(dim, torch.from_numpy(positions).to(x.device))
    return x


def expand(node: ir.Node, x: Tensor, shape: Tensor) -> Tensor:
    """Expand: broadcasting in both directions."""
    return x.expand(np.broadcast_shapes(x.shape, tuple(integers(node, shape))))


def tile(node: ir.Node, x: Tensor, repeats: Tensor) -> Tensor:
    """Tile."""
    return x.repeat(integers(node, repeats))


def depth_to_space(node: ir.Node, x: Tensor) -> Tensor:
    """DepthToSpace in its two orders (DCR, CRD)."""
    block = node.attributes.get_int("blocksize", 1)
    batch, channels, height, width = x.shape
    depth = channels // (block * block)
    if node.attributes.get_string("mode", "DCR") == "DCR":
        x = x.reshape(batch, block, block, depth, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(batch, depth, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, depth, height * block, width * block)


def space_to_depth(node: ir.Node, x: Tensor) -> Tensor:
    """SpaceToDepth."""
    block = node.attributes.get_int("blocksize", 1)
    batch, channels, height, width = x.shape
    rows, columns = height // block, width // block
    x = x.reshape(batch, channels, rows, block, columns, block).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(batch, channels * block * block, rows, columns)


def triangle(node: ir.Node, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    """Trilu: the upper or the lower triangle."""
    k = 0 if diagonal is None else integers(node, diagonal)[0]
    return torch.triu(x, k) if node.attributes.get_int("upper", 1) else torch.tril(x, k)


LAYOUT: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Pad": pad,
    "Reshape": reshape,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Slice": slice_axes,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": triangle,
    "Unsqueeze": unsqueeze,
}
