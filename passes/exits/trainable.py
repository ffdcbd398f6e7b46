"""Heads as a torch module: their ONNX nodes on a batch, normalised while they are trained.

Every convolution is followed by batch normalisation in training; `trained` folds it into weights
and bias, so that inference runs exactly the nodes of the head. The input of a fresh head's first
dense layer is standardised in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.compiler.execute.constants import to_torch
from offramp.compiler.execute.table import operator_of
from offramp.compiler.ir.clone import clone_nodes, clone_value
from offramp.compiler.ir.draft import is_constant
from offramp.passes.exits.candidates import Point
from offramp.passes.exits.heads import HeadGraph, Statistics
from offramp.passes.exits.quantised import QuantisedHeads, quantise

HALVING = (2, 2)
"""Window and strides of the pooling that halves the resolution of a feature."""


class HeadModule(nn.Module):
    """Heads that share layers; logits [N, classes] of each from features [N, ...].

    Every float constant is a Parameter. Once quantised, evaluation and `trained` are on integers,
    until training goes on.

    Args:
        heads: with one feature, those that answer earlier first. Nodes that several hold run once.
    """

    def __init__(self, *heads: HeadGraph) -> None:
        super().__init__()
        self.heads = heads
        self._nodes = list(dict.fromkeys(node for head in heads for node in head.nodes))
        self._weights = nn.ParameterDict()
        self._fixed: dict[ir.Value, Tensor] = {}
        self._norms = nn.ModuleDict()
        self._input_norms = nn.ModuleDict()
        self._quantised: QuantisedHeads | None = None
        for head in reversed(heads):
            for node in self.own_nodes(head):
                self._add_constants(node)
                self._add_norms(node, head)

    @property
    def point(self) -> Point:
        """Where in the network the heads sit."""
        return self.heads[0].point

    def own_nodes(self, head: HeadGraph) -> list[ir.Node]:
        """Nodes of a head that no later one holds."""
        later = self.heads[self.heads.index(head) + 1 :]
        return [node for node in head.nodes if not any(node in other.nodes for other in later)]

    def own_parameters(self, head: HeadGraph) -> list[nn.Parameter]:
        """What is learned in a head and in no later one."""
        nodes = self.own_nodes(head)
        constants = {_key(v): None for n in nodes for v in n.inputs if v is not None}
        weights = [self._weights[name] for name in constants if name in self._weights]
        names = [_key(node.outputs[0]) for node in nodes]
        norms = [self._norms[name] for name in names if name in self._norms]
        return [*weights, *(weight for norm in norms for weight in norm.parameters())]

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        """Logits of a batch, by head."""
        if self._quantised is not None:
            return tuple(torch.from_numpy(x) for x in self._quantised.logits(feature.numpy()))
        state: dict[ir.Value, Tensor] = {self.heads[0].feature: feature, **self._fixed}
        for node in self._nodes:
            operands = [None if v is None else self._value(v, state) for v in node.inputs]
            name = _key(node.outputs[0])
            if name in self._input_norms:
                operands[0] = self._input_norms[name](operands[0])
            result = _run(node, operands)
            state[node.outputs[0]] = self._norms[name](result) if name in self._norms else result
        return tuple(state[head.logits] for head in self.heads)

    def train(self, mode: bool = True) -> HeadModule:
        """As torch's; training is on real numbers."""
        if mode:
            self._quantised = None
        return super().train(mode)

    def quantise(self, features: Tensor, opsets: Mapping[str, int], seed: int) -> None:
        """Bring the trained heads to integers, where their feature is; see `quantise`."""
        self._quantised = quantise(self.trained(), features.numpy(), dict(opsets), seed)

    def trained(self) -> tuple[HeadGraph, ...]:
        """The heads with the current weights, normalisation folded in; they still share nodes."""
        if self._quantised is not None:
            return self._quantised.heads
        constants = {
            v: self._value(v, self._fixed).detach().cpu().numpy().copy()
            for node in self._nodes
            for v in node.inputs
            if v is not None and is_constant(v)
        }
        for node in self._nodes:
            self._fold(node, constants)
        feature = clone_value(self.heads[0].feature)
        mapping = {self.heads[0].feature: feature}
        mapping |= {value: _with_data(value, array) for value, array in constants.items()}
        copies = dict(zip(self._nodes, clone_nodes(self._nodes, mapping), strict=True))
        return tuple(
            replace(
                head,
                feature=feature,
                nodes=tuple(copies[node] for node in head.nodes),
                logits=mapping[head.logits],
                statistics={},
            )
            for head in self.heads
        )

    def _value(self, value: ir.Value, state: dict[ir.Value, Tensor]) -> Tensor:
        name = _key(value)
        return self._weights[name] if name in self._weights else state[value]

    def _add_constants(self, node: ir.Node) -> None:
        for value in node.inputs:
            if value is None or not is_constant(value) or value.const_value is None:
                continue
            data = to_torch(value.const_value)
            learned = node.op_type in ("Conv", "MatMul", "Gemm", "Add") and data.numel() > 1
            if learned and data.is_floating_point():
                order = torch.channels_last if data.ndim == 4 else torch.contiguous_format
                self._weights[_key(value)] = nn.Parameter(data.clone(memory_format=order))
            else:
                self._fixed[value] = data

    def _add_norms(self, node: ir.Node, head: HeadGraph) -> None:
        name = _key(node.outputs[0])
        if node.op_type == "Conv" and len(node.inputs) > 2:
            channels = _channels(node.outputs[0])
            norm = _batch_norm(_rank(node.outputs[0]), channels)
            if node.outputs[0] in head.statistics:
                _start_from(norm, head.statistics[node.outputs[0]])
            self._norms[name] = norm
        elif node.op_type == "Gemm" and head.fresh:
            source = node.inputs[0]
            first = not any(other.op_type == "Gemm" for other in _before(node, head))
            if first and source is not None and _rank(source) == 2:
                width = source.shape.numpy()[-1] if source.shape is not None else 0
                self._input_norms[name] = nn.BatchNorm1d(width, affine=False)

    def _fold(self, node: ir.Node, constants: dict[ir.Value, npt.NDArray[np.float32]]) -> None:
        name = _key(node.outputs[0])
        if name in self._norms:
            weight, bias = node.inputs[1], node.inputs[2]
            scale, shift = _affine(self._norms[name])
            if weight is not None and bias is not None:
                shape = (-1, *(1 for _ in constants[weight].shape[1:]))
                constants[weight] = constants[weight] * scale.reshape(shape)
                constants[bias] = np.asarray(constants[bias] * scale + shift, np.float32)
        elif name in self._input_norms:
            weight, bias = node.inputs[1], node.inputs[2]
            scale, shift = _affine(self._input_norms[name])
            if weight is not None and bias is not None:
                moved = constants[bias] + shift @ constants[weight]
                constants[bias] = np.asarray(moved, np.float32)
                constants[weight] = constants[weight] * scale[:, None]


def _before(node: ir.Node, head: HeadGraph) -> tuple[ir.Node, ...]:
    return head.nodes[: head.nodes.index(node)]


def _batch_norm(rank: int, channels: int) -> nn.Module:
    kinds = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    return kinds[rank](channels)


def _start_from(norm: nn.Module, statistics: Statistics) -> None:
    mean, deviation = (torch.from_numpy(array) for array in statistics)
    with torch.no_grad():
        norm.get_parameter("weight").copy_(deviation)
        norm.get_parameter("bias").copy_(mean)


def _affine(norm: nn.Module) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The normalisation at inference, as scale and shift by channel."""
    variance, mean = norm.get_buffer("running_var"), norm.get_buffer("running_mean")
    scale = torch.rsqrt(variance + 1e-5)
    shift = -mean * scale
    if isinstance(getattr(norm, "weight", None), Tensor):
        gain, offset = norm.get_parameter("weight"), norm.get_parameter("bias")
        scale, shift = scale * gain, shift * gain + offset
    return scale.detach().numpy(), shift.detach().numpy()


def _with_data(value: ir.Value, array: npt.NDArray[np.float32]) -> ir.Value:
    copy = clone_value(value)
    copy.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
    return copy


def _run(node: ir.Node, operands: list[Tensor | None]) -> Tensor:
    """One node on a batch.

    Only Flatten means something else there than on one sample; the pooling in front of copies has
    a faster function than the general one.
    """
    first = operands[0]
    if node.op_type == "Flatten" and first is not None:
        return first.flatten(1)
    if node.op_type == "AveragePool" and first is not None and first.ndim == 4:
        kernel = node.attributes.get_ints("kernel_shape", ())
        if tuple(node.attributes.get_ints("strides", ())) == tuple(kernel) == HALVING:
            return F.avg_pool2d(first, HALVING, ceil_mode=True, count_include_pad=False)
    result = operator_of(node)(node, *operands)
    return result if isinstance(result, Tensor) else result[0]


def _key(value: ir.Value) -> str:
    """Name of a value as torch accepts it for a submodule."""
    return str(value.name).replace(".", "_")


def _rank(value: ir.Value) -> int:
    return 0 if value.shape is None else len(value.shape)


def _channels(value: ir.Value) -> int:
    return 0 if value.shape is None else int(value.shape.numpy()[1])
