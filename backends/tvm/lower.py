"""Lower a Program to a Plan of bare kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from offramp.backends.tvm.anchors import RowSoftmax
from offramp.backends.tvm.bare import bare
from offramp.backends.tvm.buffers import BufferTable
from offramp.backends.tvm.grouping import Conversion, Join, Kernel, Tail, View, group
from offramp.backends.tvm.integer.matching import IntegerKernel
from offramp.backends.tvm.integer.refusals import Refusal, refusals
from offramp.backends.tvm.library import KernelLibrary
from offramp.backends.tvm.parts import part_starts
from offramp.backends.tvm.segment import segment_graph
from offramp.backends.tvm.selection import (
    Selection,
    select,
    select_conversion,
    select_integer,
    select_softmax,
)
from offramp.backends.tvm.symbols import SymbolTable
from offramp.backends.tvm.tail import TailCall, lower_tail
from offramp.backends.tvm.traffic import traffic
from offramp.compiler.errors import InternalError
from offramp.compiler.ir import Block, Program
from offramp.compiler.ir.clone import clone_block
from offramp.compiler.plan import BlockPlan, KernelCall, Plan, Storage
from offramp.compiler.targets import Target
from offramp.passes.layout.channels_last import ChannelsLast
from offramp.passes.layout.move_integers import MoveIntegers


@dataclass(frozen=True)
class Lowered:
    """A Program as kernel calls, and the kernels called.

    refusals: quantised layers that are computed on real numbers though the target has integers.
    """

    plan: Plan
    kernels: KernelLibrary
    refusals: tuple[Refusal, ...] = ()


def lower(program: Program, target: Target, *, exact: bool = False, wide: bool = False) -> Lowered:
    """Lower `program` for `target`; the plan's memory is left for the planner.

    Args:
        program: verified.
        target: what to lower for.
        exact: round as TFLite's reference kernels do where operators are computed in integers.
        wide: store 8-bit weights as 16 bits where that saves instructions.

    Raises:
        UnsupportedError: an operator that neither our kernels nor TVM can compile.
    """
    moved = MoveIntegers()(ChannelsLast()(program))
    own = {name: clone_block(block) for name, block in moved.blocks.items()}
    return _Lowering(replace(moved, blocks=own), target, exact=exact, wide=wide).run()


class _Lowering:
    """Collects buffers and kernels of one Program."""

    def __init__(self, program: Program, target: Target, *, exact: bool, wide: bool) -> None:
        self.program = program
        self.exact, self.wide = exact, wide
        self.target = target
        self.table = BufferTable()
        self.symbols = SymbolTable(program.name)
        self.refusals: list[Refusal] = []

    def run(self) -> Lowered:
        """Lower all blocks, predecessors first."""
        blocks = tuple(self._block(block) for block in self.program.blocks.values())
        plan = Plan(
            name=self.program.name,
            target=self.target.name,
            buffers=self.table.buffers,
            blocks=blocks,
            input_names=tuple(str(value.name) for value in self.program.inputs),
            output_names=self.program.output_names,
            batched=self.program.batched,
        )
        kernels = KernelLibrary(self.symbols.kernels, self.target)
        return Lowered(plan, kernels, tuple(self.refusals))

    def _block(self, block: Block) -> BlockPlan:
        self._parameters(block)
        calls: list[KernelCall] = []
        groups = group(
            block.graph,
            integers=self.target.microkernels,
            exact=self.exact,
            alignment=self.target.alignment,
        )
        for part in groups:
            if isinstance(part, Join):
                self._reserve(block, part.node)
        for part in groups:
            match part:
                case View(source, result, start):
                    self._view(block, source, result, start)
                case Join():
                    continue
                case Kernel(result=result, nodes=nodes):
                    selection = select(part, self.target)
                    calls.append(self._kernel(block, selection, result, nodes))
                case IntegerKernel(result=result, nodes=nodes):
                    selection = select_integer(part, self.target, exact=self.exact, wide=self.wide)
                    calls.append(self._kernel(block, selection, result, nodes))
                case Conversion(node=node, spec=spec):
                    if self.target.microkernels:
                        self.refusals += refusals(node)
                    selection = select_conversion(_first(node), spec)
                    calls.append(self._kernel(block, selection, node.outputs[0], [node]))
                case RowSoftmax(node=node, result=result):
                    selection = select_softmax(part, self.target)
                    calls.append(self._kernel(block, selection, result, [node]))
                case Tail():
                    calls += self._tail(block, part)
        return BlockPlan(
            name=block.name,
            calls=tuple(calls),
            parameters=tuple(self.table.name(value) for value in block.parameters),
            operands=tuple(self.table.name(value) for value in block.graph.outputs),
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
                argument = self.table.name(arguments[0][position])
                self.table.view(block.name, value, argument)
            else:
                self.table.arena(block.name, value)

    def _reserve(self, block: Block, node: ir.Node) -> None:
        """A buffer for a concatenation, in which each part has its place."""
        whole = self.table.arena(block.name, node.outputs[0])
        for value, start in zip(node.inputs, part_starts(node), strict=True):
            if value is not None:
                self.table.reserve(value, whole, start)

    def _view(self, block: Block, source: ir.Value, result: ir.Value, start: int) -> None:
        whole = self.table.name(source)
        size = np.dtype(self.table.buffers[whole].dtype).itemsize
        self.table.view(block.name, result, whole, start * size)

    def _kernel(
        self, block: Block, selection: Selection, result: ir.Value, nodes: list[ir.Node]
    ) -> KernelCall:
        inputs = [
            self.table.name(a) if isinstance(a, ir.Value) else self.table.constant(a)
            for a in selection.arguments
        ]
        arguments = (*inputs, self.table.arena(block.name, result))
        buffers = [self.table.buffers[name] for name in arguments]
        return KernelCall(
            kernel=self.symbols.kernel(selection),
            arguments=arguments,
            in_place=tuple(
                (len(inputs), position)
                for position in selection.residuals
                if self._is_read_once(inputs, position)
            ),
            nodes=tuple(_node_name(n) for n in nodes if n.op_type != "Transpose"),
            workspace=selection.workspace,
            macs=selection.spec.macs,
            traffic=traffic(
                selection.spec,
                [buffer.nbytes for buffer in buffers],
                [buffer.storage is Storage.CONSTANT for buffer in buffers],
                workspace=selection.workspace > 0,
            ),
        )

    def _is_read_once(self, inputs: list[str], position: int) -> bool:
        """Whether one input is an activation and no other, read in another order, is the same."""
        roots = [self.table.root(name) for name in inputs]
        is_activation = self.table.buffers[roots[position]].storage is Storage.ARENA
        return is_activation and roots.count(roots[position]) == 1

    def _tail(self, block: Block, tail: Tail) -> list[KernelCall]:
        graph = segment_graph(tail.nodes, self.program.opset_imports)
        results = {str(v.name): v for node in tail.nodes for v in node.outputs}
        reads = [v for node in tail.nodes for v in node.inputs if v is not None]
        names = {
            str(v.name): self.table.name(v)
            for v in reads
            if str(v.name) not in results and v.const_value is None
        }
        calls: list[KernelCall] = []
        for call in lower_tail(graph, self.target):
            inputs = [
                names[i] if isinstance(i, str) else self.table.constant(i) for i in call.inputs
            ]
            outputs = self._outputs(block, call, inputs)
            names.update(zip(call.outputs, outputs, strict=True))
            if not call.is_view:
                calls.append(self._tail_call(call, inputs, outputs))
        for name in results.keys() & names.keys():
            self.table.assign(results[name], names[name])
        return calls

    def _outputs(self, block: Block, call: TailCall, inputs: list[str]) -> list[str]:
        """A buffer for each output of a call; the output of a view is a view of its input."""
        if call.is_view:
            name = f"{block.name}.{call.outputs[0]}"
            return [self.table.add_view(name, call.output_shapes[0], inputs[0])]
        described = zip(call.outputs, call.output_shapes, call.output_dtypes, strict=True)
        return [self.table.add(f"{block.name}.{name}", s, dtype) for name, s, dtype in described]

    def _tail_call(self, call: TailCall, inputs: list[str], outputs: list[str]) -> KernelCall:
        function = bare(call.func)
        return KernelCall(
            kernel=self.symbols.tail(function),
            arguments=(*inputs, *outputs),
            outputs=len(outputs),
            workspace=function.workspace,
            nodes=call.nodes,
        )


def _first(node: ir.Node) -> ir.Value:
    """The first input, which the operators handled here require."""
    value = node.inputs[0]
    if value is None:
        raise InternalError(f"node {node.name!r} ({node.op_type}) has no first input")
    return value


def _node_name(node: ir.Node) -> str:
    return node.name or str(node.outputs[0].name)
