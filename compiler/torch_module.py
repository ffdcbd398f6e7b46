"""A straight-line graph as a torch module, so that a network can be trained where it stands.

Every float initializer becomes a Parameter, and before training the outputs equal onnxruntime's.
A graph has batch 1; its module takes any batch N on the leading axis and means N independent
runs: each sample goes through the batch-1 graph under `torch.vmap`, so a Reshape to `[1, 64]` or
an axis moved in front of the batch needs no rewriting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir
import torch
from torch import Tensor, nn

from offramp.compiler.errors import UserError
from offramp.compiler.execute.constants import to_torch
from offramp.compiler.execute.table import FIXED_OPERANDS, operator_of


class GraphModule(nn.Module):
    """A straight-line ONNX graph whose float initializers are Parameters.

    weights: the Parameters, aligned with `weight_names`. Scalars of rank 0, batch statistics and
        operands such as the bounds of Clip do not require gradients: they are settings of the
        network, not weights.
    """

    def __init__(
        self,
        graph: ir.Graph,
        *,
        batched: bool = True,
        shared: dict[int, nn.Parameter] | None = None,
    ) -> None:
        """Read `graph`, which is kept by reference and must not change afterwards.

        Args:
            graph: one block's graph, or any onnx_ir graph without subgraphs.
            batched: whether inputs get a leading axis of samples; False runs the graph as it is.
            shared: Parameters by the `id` of the tensor they come from; modules built with the
                same dict share the weights of tensors that their graphs share.

        Raises:
            UnsupportedError: an operator has no torch function; names it and its node.
        """
        super().__init__()
        self.graph = graph
        self.batched = batched
        self._steps = [(operator_of(node), node) for node in graph]
        self._expiring = _last_reads(graph)
        self._values = {value.name: value for value in graph.inputs}
        self._values |= {value.name: value for node in graph for value in node.outputs}
        self.weight_names: list[str] = []
        self.weights = nn.ParameterList()
        self._constants: dict[str, str] = {}
        shared = {} if shared is None else shared
        for name, value in graph.initializers.items():
            self._read_initializer(name, value, shared)

    def _read_initializer(
        self, name: str, value: ir.Value, shared: dict[int, nn.Parameter]
    ) -> None:
        tensor = value.const_value
        if tensor is None:
            raise UserError(f'initializer "{name}" has no data; load the model with its weights')
        data = to_torch(tensor)
        if not data.is_floating_point():
            self._constants[name] = f"constant_{len(self._constants)}"
            self.register_buffer(self._constants[name], data, persistent=False)
            return
        if id(tensor) not in shared:
            if data.ndim == 4:
                # oneDNN's convolutions on a CPU are half as fast again in this memory order.
                data = data.contiguous(memory_format=torch.channels_last)
            shared[id(tensor)] = nn.Parameter(data, requires_grad=_is_learned(value, data))
        self.weight_names.append(name)
        self.weights.append(shared[id(tensor)])

    def forward(self, *inputs: Tensor, taps: Sequence[str] = ()) -> tuple[Tensor, ...]:
        """Run the graph; returns its outputs, then the values named in `taps`.

        Args:
            inputs: the graph's inputs by position, `[N, ...]` where the graph has `[1, ...]`
                (a value without a leading 1 gets one more axis in front).
            taps: names of values inside the graph to return as well.

        Raises:
            UserError: the number or the shape of the inputs is wrong, or a tap does not exist.
            UnsupportedError: a shape or an axis depends on the data.
        """
        self._check(inputs, taps)
        wanted = (*self.graph.outputs, *(self._values[tap] for tap in taps))
        weights = dict(zip(self.weight_names, self.weights, strict=True))
        weights |= {name: self.get_buffer(buffer) for name, buffer in self._constants.items()}
        if not self.batched:
            return self._run(inputs, wanted, weights)

        def one_sample(*samples: Tensor) -> tuple[Tensor, ...]:
            arguments = [
                sample.unsqueeze(0) if _has_batch_axis(value) else sample
                for sample, value in zip(samples, self.graph.inputs, strict=True)
            ]
            results = self._run(arguments, wanted, weights)
            return tuple(y.squeeze(0) if y.ndim and y.shape[0] == 1 else y for y in results)

        results: tuple[Tensor, ...] = torch.vmap(one_sample)(*inputs)
        return results

    def _run(
        self, inputs: Sequence[Tensor], wanted: Sequence[ir.Value], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        kept = set(wanted)
        state: dict[ir.Value | None, Tensor | None] = {None: None}
        state |= {value: weights[name] for name, value in self.graph.initializers.items()}
        state |= dict(zip(self.graph.inputs, inputs, strict=True))
        for operator, node in self._steps:
            results = operator(node, *(state[value] for value in node.inputs))
            outputs = results if isinstance(results, tuple) else (results,)
            state |= dict(zip(node.outputs, outputs, strict=False))
            for value in self._expiring[node]:
                if value not in kept:
                    state.pop(value, None)
        return tuple(result for value in wanted if (result := state[value]) is not None)

    def _check(self, inputs: Sequence[Tensor], taps: Sequence[str]) -> None:
        names = [value.name for value in self.graph.inputs]
        if len(inputs) != len(names):
            raise UserError(f"expected {len(names)} inputs {names}, found {len(inputs)}")
        for value, given in zip(self.graph.inputs, inputs, strict=True):
            shape = list(given.shape[1:] if self.batched else given.shape)
            expected = _sample_shape(value) if self.batched else _shape(value)
            if expected is not None and shape != expected:
                lead = "[N, ...] with the rest " if self.batched else ""
                raise UserError(
                    f'input "{value.name}": expected shape {lead}{expected}, '
                    f"found {list(given.shape)}"
                )
        missing = [tap for tap in taps if tap not in self._values]
        if missing:
            raise UserError(f"no values named {missing} in the graph")


def _last_reads(graph: ir.Graph) -> dict[ir.Node, set[ir.Value]]:
    """The values that nothing reads after each node, so that they need no memory any more."""
    expiring: dict[ir.Node, set[ir.Value]] = {}
    read_later: set[ir.Value] = set()
    for node in reversed(graph):
        touched = {value for value in (*node.inputs, *node.outputs) if value is not None}
        expiring[node] = touched - read_later
        read_later |= touched
    return expiring


def _is_learned(value: ir.Value, data: Tensor) -> bool:
    fixed = any(position in FIXED_OPERANDS.get(node.op_type, ()) for node, position in value.uses())
    return data.ndim > 0 and not fixed


def _shape(value: ir.Value) -> list[int] | None:
    """The static shape, or None where it is unknown."""
    if value.shape is None or not value.shape.is_static():
        return None
    return list(value.shape.numpy())


def _has_batch_axis(value: ir.Value) -> bool:
    """Whether the leading axis counts samples; a value of unknown shape is taken to have it."""
    shape = _shape(value)
    return shape is None or (len(shape) > 0 and shape[0] == 1)


def _sample_shape(value: ir.Value) -> list[int] | None:
    shape = _shape(value)
    return shape[1:] if shape is not None and _has_batch_axis(value) else shape


def store(
    module: GraphModule, graph: ir.Graph, stored: dict[int, ir.TensorProtocol] | None = None
) -> ir.Graph:
    """A clone of `graph` with the module's weights in its initializers.

    Weights that training left unchanged keep their tensor object. The clone has no value in
    common with `graph`.

    Args:
        module: the module of `graph`, trained.
        graph: the graph that the module was built from, or a clone of it.
        stored: tensors by the `id` of their Parameter; graphs stored with the same dict share
            the tensors of Parameters that their modules share.

    Raises:
        UserError: the graph has no initializer of that name and shape: the module is of another
            graph.
    """
    stored = {} if stored is None else stored
    clone = graph.clone()
    for name, weight in zip(module.weight_names, module.weights, strict=True):
        value = clone.initializers.get(name)
        tensor = None if value is None else value.const_value
        if value is None or tensor is None or tuple(tensor.shape.numpy()) != tuple(weight.shape):
            raise UserError(
                f'cannot store weight "{name}" {list(weight.shape)}: the graph "{graph.name}" '
                f"has {'no such initializer' if tensor is None else tensor.shape}"
            )
        if id(weight) not in stored:
            trained = weight.detach().cpu()
            same = torch.equal(trained, to_torch(tensor))
            stored[id(weight)] = tensor if same else ir.tensor(trained.numpy().copy(), name=name)
        value.const_value = stored[id(weight)]
    return clone
