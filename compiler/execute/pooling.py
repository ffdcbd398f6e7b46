"""Pooling over windows and over whole feature maps."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.compiler.execute.constants import unsupported
from offramp.compiler.execute.windows import Windows, windows_of

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _windows(node: ir.Node, x: Tensor) -> Windows:
    if x.ndim - 2 not in _MAX:
        raise unsupported(node, f"{x.ndim - 2} spatial axes, expected 1, 2 or 3")
    return windows_of(node, x.shape[2:], node.attributes.get_ints("kernel_shape", ()))


def max_pool(node: ir.Node, x: Tensor) -> Tensor:
    """MaxPool: pads never win."""
    if len(node.outputs) > 1:
        raise unsupported(node, "the output Indices; use the first output only")
    windows = _windows(node, x)
    lowest = -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    x = F.pad(x, windows.torch_pads(), value=lowest)
    pool = _MAX[x.ndim - 2]
    return pool(x, windows.kernel, windows.strides, 0, windows.dilations)


def _window_sum(x: Tensor, windows: Windows) -> Tensor:
    """Sum over each window, every channel by itself: a convolution with ones."""
    ones = torch.ones((1, 1, *windows.kernel), dtype=x.dtype, device=x.device)
    convolve = _CONVOLUTIONS[x.ndim - 2]
    flat = x.reshape(-1, 1, *x.shape[2:])
    y = convolve(flat, ones, None, windows.strides, 0, windows.dilations)
    return y.reshape(*x.shape[:2], *y.shape[2:])


def average_pool(node: ir.Node, x: Tensor) -> Tensor:
    """AveragePool: the sum of each window over the elements that count in it."""
    windows = _windows(node, x)
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if node.attributes.get_int("count_include_pad", 0):
        counted = F.pad(counted, windows.torch_pads(overhang=False), value=1.0)
        pads = windows.torch_pads()
        inner = windows.torch_pads(overhang=False)
        counted = F.pad(counted, [a - b for a, b in zip(pads, inner, strict=True)])
    else:
        counted = F.pad(counted, windows.torch_pads())
    total = _window_sum(F.pad(x, windows.torch_pads()), windows)
    return total / _window_sum(counted, windows)


def lp_pool(node: ir.Node, x: Tensor) -> Tensor:
    """LpPool."""
    p = node.attributes.get_int("p", 2)
    windows = _windows(node, x)
    powers = F.pad(x.abs().pow(p), windows.torch_pads())
    return _window_sum(powers, windows).pow(1.0 / p)


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def global_average_pool(_: ir.Node, x: Tensor) -> Tensor:
    """GlobalAveragePool."""
    return x.mean(_spatial(x), keepdim=True)


def global_max_pool(_: ir.Node, x: Tensor) -> Tensor:
    """GlobalMaxPool."""
    return x.amax(_spatial(x), keepdim=True)


POOLING: dict[str, Callable[..., Tensor]] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
}
