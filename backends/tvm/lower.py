"""Lower a Program to a Plan of bare kernels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm.bare import Bare, bare
from offramp.backends.tvm.grouping import Kernel, Tail, View, group
from offramp.backends.tvm.library import KernelLibrary
from offramp.backends.tvm.segment import segment_graph
from offramp.backends.tvm.selection import Selection, Tiled, build, select
from offramp.backends.tvm.tail import TailCall, lower_tail
from offramp.compiler.ir import Block, Program
from offramp.compiler.plan import BlockPlan, Buffer, KernelCall, Plan, Storage
from offramp.compiler.targets import Target
from offramp.passes.layout import rules
from offramp.passes.layout.channels_last import ChannelsLast

Constant = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Lowered:
    """A Program as kernel calls, and the kernels called."""

    plan: Plan
    kernels: KernelLibrary


def lower(program: Program, target: Target) -> Lowered:
    """Lower `program` for `target`; the plan's memory is left for the planner.

    Raises:
        UnsupportedError: an operator that neither our kernels nor TVM can compile.
    """
    return _Lowering(ChannelsLast()(program), target).run()


class _Lowering:
    """Collects buffers and kernels of one Program."""

    def __init__(self, program: Program, target: Target) -> None:
        self.program = program
        self.target = target
        self.buffers: dict[str, Buffer] = {}
        self._constants: dict[tuple[str, tuple[int, ...], str], str] = {}
        self._symbols: dict[Any, str] = {}
        self._kernels: dict[str, Bare] = {}
        self._names: dict[ir.Value, str] = {}

    def run(self) -> Lowered:
        """Lower all blocks."""
        blocks = tuple(self._block(block) for block in self.program.blocks.values())
        plan = Plan(
            name=self.program.name,
            target=self.target.name,
            buffers=self.buffers,
            blocks=blocks,
            input_names=tuple(str(value.name) for value in self.program.inputs),
            output_names=self.program.output_names,
            batched=self.program.batched,
        )
        return Lowered(plan, KernelLibrary(self._kernels, self.target))

    def _block(self, block: Block) -> BlockPlan:
        self._parameters(block)
        calls: list[KernelCall] = []
        for part in group(block.graph):
            match part:
                case View(source, result):
                    self._view(block, result, self._name(source))
                case Kernel():
                    calls.append(self._kernel(block, part))
                case Tail():
                    calls += self._tail(block, part)
        return BlockPlan(
            name=block.name,
            calls=tuple(calls),
            parameters=tuple(self._name(value) for value in block.parameters),
            operands=tuple(self._name(value) for value in block.graph.outputs),
            terminator=block.terminator,
        )

    def _parameters(self, block: Block) -> None:
        """A parameter with one predecessor is a view of the argument."""
        arguments = [
            source.arguments(successor)
            for source, successor in self.program.edges()
            if successor.block == block.name
        ]
        for position, value in enumerate(block.parameters):
            if len(arguments) == 1:
                self._view(block, value, self._name(arguments[0][position]))
            else:
                self._arena(block, value)

    def _kernel(self, block: Block, kernel: Kernel) -> KernelCall:
        selection = select(kernel, self.target)
        symbol = self._kernel_symbol(selection)
        inputs = [
            self._name(a) if isinstance(a, ir.Value) else self._constant(a)
            for a in selection.arguments
        ]
        output = self._arena(block, kernel.result)
        return KernelCall(
            kernel=symbol,
            arguments=(*inputs, output),
            in_place=tuple(
                (len(inputs), position)
                for position in selection.residuals
                if not self._is_read_elsewhere(inputs, position)
            ),
            nodes=tuple(_node_name(n) for n in kernel.nodes if n.op_type != "Transpose"),
            macs=selection.spec.macs,
        )

    def _is_read_elsewhere(self, inputs: list[str], position: int) -> bool:
        """Whether the memory of one input is that of another, which is read in another order."""
        roots = [self.buffers[name].alias_of or name for name in inputs]
        return roots.count(roots[position]) > 1

    def _kernel_symbol(self, selection: Selection) -> str:
        """The symbol of a kernel, or of an equal one."""
        spec, extended = selection.spec, selection.extended
        if spec not in self._symbols:
            self._symbols[spec] = self._add(
                selection.kind,
                Bare(
                    function=build(spec),
                    extended=None if extended is None else build(extended),
                    microkernels=spec.microkernels() if isinstance(spec, Tiled) else (),
                    dtypes=("float32",) * (len(selection.arguments) + 1),
                ),
            )
        return self._symbols[spec]

    def _tail(self, block: Block, tail: Tail) -> list[KernelCall]:
        graph = segment_graph(tail.nodes, self.program.opset_imports)
        produced = {str(v.name): v for node in tail.nodes for v in node.outputs}
        local = {
            str(v.name): self._name(v)
            for node in tail.nodes
            for v in node.inputs
            if v is not None and str(v.name) not in produced and v.const_value is None
        }
        calls = []
        for call in lower_tail(graph, self.target):
            if call.is_view:
                self._tail_view(block, call, local, produced)
            else:
                calls.append(self._tail_call(block, call, local, produced))
        return calls

    def _tail_view(
        self,
        block: Block,
        call: TailCall,
        local: dict[str, str],
        produced: dict[str, ir.Value],
    ) -> None:
        operand, name = call.inputs[0], call.outputs[0]
        source = local[operand] if isinstance(operand, str) else self._constant(operand)
        root = self.buffers[source]
        shape = tuple(call.output_shapes[0])
        local[name] = self._fresh(block, name, shape, root.dtype, root.alias_of or source)
        if name in produced:
            self._names[produced[name]] = local[name]

    def _tail_call(
        self,
        block: Block,
        call: TailCall,
        local: dict[str, str],
        produced: dict[str, ir.Value],
    ) -> KernelCall:
        """Name the buffers of one call; `local` maps graph names to buffers and grows."""
        inputs = [local[i] if isinstance(i, str) else self._constant(i) for i in call.inputs]
        outputs = []
        for name, shape, dtype in zip(
            call.outputs, call.output_shapes, call.output_dtypes, strict=True
        ):
            buffer = self._fresh(block, name, tuple(shape), dtype)
            local[name] = buffer
            if name in produced:
                self._names[produced[name]] = buffer
            outputs.append(buffer)
        function = bare(call.func)
        symbol = self._shared_symbol("tail", function)
        return KernelCall(
            kernel=symbol,
            arguments=(*inputs, *outputs),
            outputs=len(outputs),
            workspace=function.workspace,
            nodes=tuple(call.nodes),
        )

    def _shared_symbol(self, kind: str, function: Bare) -> str:
        """The symbol of a function, or of an equal one."""
        import tvm_ffi

        key = tvm_ffi.StructuralKey(function.function)
        if key not in self._symbols:
            self._symbols[key] = self._add(kind, function)
        return self._symbols[key]

    def _add(self, kind: str, function: Bare) -> str:
        symbol = f"{self.program.name}_{kind}_{len(self._kernels)}"
        self._kernels[symbol] = function
        return symbol

    def _name(self, value: ir.Value) -> str:
        """The buffer of a value; constants get one when first read."""
        if value not in self._names and value.const_value is not None:
            self._names[value] = self._constant(value.const_value.numpy())
        return self._names[value]

    def _view(self, block: Block, value: ir.Value, source: str) -> None:
        root = self.buffers[source]
        name = self._fresh(
            block, str(value.name), rules.static_shape(value), root.dtype, root.alias_of or source
        )
        self._names[value] = name

    def _arena(self, block: Block, value: ir.Value) -> str:
        dtype = "float32" if value.dtype is None else value.dtype.numpy().name
        name = self._fresh(block, str(value.name), rules.static_shape(value), dtype)
        self._names[value] = name
        return name

    def _fresh(
        self,
        block: Block,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        alias_of: str | None = None,
    ) -> str:
        full, number = f"{block.name}.{name}", 1
        while full in self.buffers:
            number += 1
            full = f"{block.name}.{name}.{number}"
        storage = self.buffers[alias_of].storage if alias_of else Storage.ARENA
        self.buffers[full] = Buffer(full, shape, dtype, storage, alias_of=alias_of)
        return full

    def _constant(self, data: Constant) -> str:
        """The buffer of a constant; equal contents share one."""
        data = np.ascontiguousarray(data)
        key = (data.dtype.name, data.shape, hashlib.sha256(data.tobytes()).hexdigest())
        if key not in self._constants:
            name = f"constant.{len(self._constants)}"
            self._constants[key] = name
            self.buffers[name] = Buffer(name, data.shape, data.dtype.name, Storage.CONSTANT, data)
        return self._constants[key]


def _node_name(node: ir.Node) -> str:
    return node.name or str(node.outputs[0].name)
