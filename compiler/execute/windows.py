"""The geometry of sliding windows: convolution and pooling share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Windows:
    """Window sizes and steps per spatial axis; pads are those at the begin and at the end.

    overhang: elements beyond the end pads that the last window of `ceil_mode` reaches.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    overhang: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """Whether both sides of every axis have the same pads."""
        return self.begins == self.ends and not any(self.overhang)

    def torch_pads(self, *, overhang: bool = True) -> list[int]:
        """Pads in the order of `torch.nn.functional.pad`: last axis first, (begin, end) pairs."""
        extra = self.overhang if overhang else (0,) * len(self.ends)
        sides = list(zip(self.begins, self.ends, extra, strict=True))
        return [pad for begin, end, more in reversed(sides) for pad in (begin, end + more)]


def windows_of(node: ir.Node, size: Sequence[int], kernel: Sequence[int]) -> Windows:
    """The windows of a Conv or pooling node over an input of spatial `size`."""
    rank = len(size)
    strides = tuple(node.attributes.get_ints("strides", (1,) * rank))
    dilations = tuple(node.attributes.get_ints("dilations", (1,) * rank))
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    begins, ends = _pads(node, size, strides, extents)
    overhang = [0] * rank
    if node.attributes.get_int("ceil_mode", 0):
        overhang = [
            _overhang(length, begin, end, stride, extent)
            for length, begin, end, stride, extent in zip(
                size, begins, ends, strides, extents, strict=True
            )
        ]
    return Windows(tuple(kernel), strides, dilations, tuple(begins), tuple(ends), tuple(overhang))


def _pads(
    node: ir.Node, size: Sequence[int], strides: Sequence[int], extents: Sequence[int]
) -> tuple[list[int], list[int]]:
    rank = len(size)
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    if not auto_pad.startswith("SAME"):
        default = (0,) * (2 * rank)
        pads = node.attributes.get_ints("pads", default) if auto_pad == "NOTSET" else default
        return list(pads[:rank]), list(pads[rank:])
    totals = [
        max((-(-length // stride) - 1) * stride + extent - length, 0)
        for length, stride, extent in zip(size, strides, extents, strict=True)
    ]
    return split_pads(totals, upper=auto_pad == "SAME_UPPER")


def split_pads(totals: Sequence[int], *, upper: bool) -> tuple[list[int], list[int]]:
    """Total pads as (begins, ends): an odd one goes to the end if `upper`, else to the begin."""
    smaller = [total // 2 for total in totals]
    larger = [total - half for total, half in zip(totals, smaller, strict=True)]
    return (smaller, larger) if upper else (larger, smaller)


def _overhang(length: int, begin: int, end: int, stride: int, extent: int) -> int:
    """A last partial window counts unless it would start in the end pads."""
    padded = length + begin + end
    windows = -(-(padded - extent) // stride) + 1
    if (windows - 1) * stride >= length + begin:
        windows -= 1
    return max((windows - 1) * stride + extent - padded, 0)
