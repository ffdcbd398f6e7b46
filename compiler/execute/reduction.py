"""Reductions, searches along an axis, and products of matrices."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import torch
from torch import Tensor

from offramp.compiler.execute.constants import axes_of, integers

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def reduction(reduce: Reduction) -> Callable[..., Tensor]:
    """A Reduce* operator: axes as operand or attribute, all axes by default."""

    def run(node: ir.Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        wanted = axes_of(node, axes)
        if not wanted and node.attributes.get_int("noop_with_empty_axes", 0) != 0:
            return x
        dims = tuple(range(x.ndim)) if not wanted else tuple(axis % x.ndim for axis in wanted)
        keepdim = node.attributes.get_int("keepdims", 1) != 0
        return reduce(x, dims, keepdim) if dims else x

    return run


def _product(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim, keepdim=keepdim, dtype=x.dtype)
    return x


def _sum(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.sum(dims, keepdim=keepdim, dtype=x.dtype)


def arg_extreme(find: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """ArgMax or ArgMin: the first extreme along an axis, or the last."""

    def run(node: ir.Node, x: Tensor) -> Tensor:
        axis = node.attributes.get_int("axis", 0)
        keepdim = bool(node.attributes.get_int("keepdims", 1))
        if not node.attributes.get_int("select_last_index", 0):
            return find(x, axis, keepdim=keepdim)
        return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=keepdim)

    return run


def top_k(node: ir.Node, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """TopK: values and indices."""
    axis = node.attributes.get_int("axis", -1)
    largest = bool(node.attributes.get_int("largest", 1))
    ordered = bool(node.attributes.get_int("sorted", 1))
    values, indices = torch.topk(x, integers(node, k)[0], axis, largest, ordered)
    return values, indices


def cumulative_sum(node: ir.Node, x: Tensor, axis: Tensor) -> Tensor:
    """CumSum along an axis, from either end, with or without the element itself."""
    dim = integers(node, axis)[0]
    reverse = bool(node.attributes.get_int("reverse", 0))
    ordered = x.flip(dim) if reverse else x
    y = ordered.cumsum(dim, dtype=x.dtype)
    if node.attributes.get_int("exclusive", 0):
        y = y - ordered
    return y.flip(dim) if reverse else y


def matmul(_: ir.Node, a: Tensor, b: Tensor) -> Tensor:
    """MatMul with NumPy's broadcasting."""
    return torch.matmul(a, b)


def gemm(node: ir.Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Gemm: alpha * A' B' + beta * C."""
    a = a.T if node.attributes.get_int("transA", 0) else a
    b = b.T if node.attributes.get_int("transB", 0) else b
    y = node.attributes.get_float("alpha", 1.0) * (a @ b)
    return y if c is None else y + node.attributes.get_float("beta", 1.0) * c


def einsum(node: ir.Node, *operands: Tensor) -> Tensor:
    """Einsum."""
    return torch.einsum(node.attributes.get_string("equation", ""), *operands)


REDUCTION: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "ArgMax": arg_extreme(torch.argmax),
    "ArgMin": arg_extreme(torch.argmin),
    "CumSum": cumulative_sum,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
    "ReduceL1": reduction(lambda x, dims, keep: _sum(x.abs(), dims, keep)),
    "ReduceL2": reduction(lambda x, dims, keep: _sum(x.square(), dims, keep).sqrt()),
    "ReduceLogSum": reduction(lambda x, dims, keep: _sum(x, dims, keep).log()),
    "ReduceLogSumExp": reduction(lambda x, dims, keep: x.logsumexp(dims, keepdim=keep)),
    "ReduceMax": reduction(lambda x, dims, keep: x.amax(dims, keepdim=keep)),
    "ReduceMean": reduction(lambda x, dims, keep: x.mean(dims, keepdim=keep)),
    "ReduceMin": reduction(lambda x, dims, keep: x.amin(dims, keepdim=keep)),
    "ReduceProd": reduction(_product),
    "ReduceSum": reduction(_sum),
    "ReduceSumSquare": reduction(lambda x, dims, keep: _sum(x.square(), dims, keep)),
    "TopK": top_k,
}
