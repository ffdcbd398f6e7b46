"""Which rows of its input an operator needs for some rows of its output."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from offramp.compiler.ir.dequantise import dequantised
from offramp.passes.layout import rules

ROW_AXIS = 2
"""Of `[batch, channels, rows, columns]`."""
WINDOWED = frozenset({"Conv", "MaxPool", "AveragePool"})
SCALED = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class Rows:
    """Half-open; may reach outside the image, where there is padding."""

    first: int
    end: int

    @property
    def count(self) -> int:
        """How many they are."""
        return self.end - self.first

    def within(self, size: int) -> Rows:
        """Those inside an image of `size` rows."""
        return Rows(max(self.first, 0), min(self.end, size))

    def joined(self, other: Rows) -> Rows:
        """The fewest neighbouring rows that include both."""
        return Rows(min(self.first, other.first), max(self.end, other.end))


@dataclass(frozen=True)
class Sliding:
    """A window along the rows: output `o` reads from `o * stride - pad` on, `reach` rows."""

    stride: int
    pad: int
    reach: int

    def needed(self, rows: Rows) -> Rows:
        """The inputs of some outputs."""
        first = rows.first * self.stride - self.pad
        return Rows(first, (rows.end - 1) * self.stride - self.pad + self.reach)


POINTWISE = Sliding(1, 0, 1)


def sliding(node: ir.Node) -> Sliding | None:
    """How `node` reads its activations along their rows; None if it mixes rows in another way."""
    if node.domain != "" or len(node.outputs) != 1:
        return None
    shape = rules.static_shape(node.outputs[0])
    if len(shape) != 4 or shape[0] != 1:
        return None
    if node.op_type in WINDOWED:
        return _window(node)
    if node.op_type in SCALED:
        single = all(rules.static_shape(v) in ((), (1,)) for v in node.inputs[1:] if v is not None)
        return POINTWISE if single else None
    if node.op_type not in rules.ELEMENTWISE:
        return None
    same = all(rules.static_shape(v) == shape for v in activations(node))
    level = all(_is_level(v) for v in node.inputs if v is not None and is_constant(v))
    return POINTWISE if same and level else None


def activations(node: ir.Node) -> list[ir.Value]:
    """The inputs that are computed."""
    return [value for value in node.inputs if value is not None and not is_constant(value)]


def is_constant(value: ir.Value) -> bool:
    """Whether a value is known when the network is compiled."""
    node = value.producer()
    return value.const_value is not None or (node is not None and dequantised(node) is not None)


def rows_of(value: ir.Value) -> int:
    """How many rows a value has."""
    return rules.static_shape(value)[ROW_AXIS]


def _is_level(value: ir.Value) -> bool:
    """Whether a constant is the same for all rows."""
    shape = rules.static_shape(value)
    return len(shape) < 2 or shape[-2] == 1


def _window(node: ir.Node) -> Sliding | None:
    """A convolution or pool over images, whose padding is known; no output is of padding alone."""
    attributes, source = node.attributes, node.inputs[0]
    auto_pad = attributes["auto_pad"].as_string() if "auto_pad" in attributes else "NOTSET"
    if source is None or _flag(node, "ceil_mode") or len(activations(node)) != 1:
        return None
    if node.op_type == "Conv":
        weights = node.inputs[1]
        taps = 0 if weights is None else rules.static_shape(weights)[ROW_AXIS]
    else:
        taps = attributes["kernel_shape"].as_ints()[0]
    stride, dilation = (_first(node, name) for name in ("strides", "dilations"))
    reach = (taps - 1) * dilation + 1
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        out, size = rows_of(node.outputs[0]), rows_of(source)
        total = max((out - 1) * stride + reach - size, 0)
        return Sliding(stride, (total + (auto_pad == "SAME_LOWER")) // 2, reach)
    pads = attributes["pads"].as_ints() if "pads" in attributes else (0, 0, 0, 0)
    if auto_pad == "VALID":
        return Sliding(stride, 0, reach)
    reads_rows = pads[0] < reach and pads[2] < reach
    return Sliding(stride, pads[0], reach) if reads_rows else None


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() != 0


def _first(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_ints()[0] if name in node.attributes else 1
