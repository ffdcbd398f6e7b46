"""Conv and ConvTranspose over one, two or three spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch.nn.functional as F
from torch import Tensor

from offramp.compiler.execute.constants import unsupported
from offramp.compiler.execute.windows import split_pads, windows_of

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _of_rank(
    node: ir.Node, table: dict[int, Callable[..., Tensor]], x: Tensor
) -> Callable[..., Tensor]:
    if x.ndim - 2 not in table:
        raise unsupported(node, f"{x.ndim - 2} spatial axes, expected 1, 2 or 3")
    return table[x.ndim - 2]


def conv(node: ir.Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Conv: pads may differ between the sides, torch's may not, so those are applied before."""
    convolve = _of_rank(node, _CONVOLUTIONS, x)
    windows = windows_of(node, x.shape[2:], weight.shape[2:])
    padding: Sequence[int] = windows.begins
    if not windows.symmetric:
        x = F.pad(x, windows.torch_pads())
        padding = (0,) * (x.ndim - 2)
    group = node.attributes.get_int("group", 1)
    return convolve(x, weight, bias, windows.strides, padding, windows.dilations, group)


def conv_transpose(node: ir.Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """ConvTranspose: the full result, extended by `output_padding`, then cropped by the pads."""
    convolve = _of_rank(node, _TRANSPOSED, x)
    rank = x.ndim - 2
    strides = list(node.attributes.get_ints("strides", (1,) * rank))
    dilations = list(node.attributes.get_ints("dilations", (1,) * rank))
    extra = list(node.attributes.get_ints("output_padding", (0,) * rank))
    group = node.attributes.get_int("group", 1)
    y = convolve(x, weight, None, strides, 0, 0, group, dilations)
    full = [length + more for length, more in zip(y.shape[2:], extra, strict=True)]
    begins, ends = _transposed_pads(node, x.shape[2:], full, strides)
    crop = [
        side
        for begin, end, more in reversed(list(zip(begins, ends, extra, strict=True)))
        for side in (-begin, more - end)
    ]
    y = F.pad(y, crop)
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _transposed_pads(
    node: ir.Node, size: Sequence[int], full: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    rank = len(size)
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    wanted = node.attributes.get_ints("output_shape", None)
    if wanted is None and auto_pad.startswith("SAME"):
        wanted = [length * stride for length, stride in zip(size, strides, strict=True)]
    if wanted is None:
        pads = node.attributes.get_ints("pads", (0,) * (2 * rank))
        return list(pads[:rank]), list(pads[rank:])
    totals = [
        max(length - target, 0) for length, target in zip(full, list(wanted)[-rank:], strict=True)
    ]
    return split_pads(totals, upper=auto_pad == "SAME_UPPER")


CONVOLUTION: dict[str, Callable[..., Tensor]] = {"Conv": conv, "ConvTranspose": conv_transpose}
