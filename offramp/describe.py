"""The manifest of a compilation: costs, exits, memory over time and where it all came from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import onnx_ir as ir

from offramp.compiler import targets
from offramp.compiler.ir import Program
from offramp.compiler.ir.cfg import reach_probabilities, trunk
from offramp.compiler.ir.costs import block_cost, exit_costs, expected_cost
from offramp.compiler.manifest import (
    AccessEntry,
    BankEntry,
    BlockEntry,
    CostEntry,
    ExitEntry,
    Manifest,
    MemoryEntry,
    MemoryMap,
    TensorSpec,
)
from offramp.compiler.plan import Plan, copied_bytes
from offramp.cost_models import base as cost_models
from offramp.cost_models.analytical import AnalyticalModel
from offramp.data import STAND_FOR
from offramp.options import Options
from offramp.passes.memory.liveness import first_steps
from offramp.passes.memory.plan import as_problem
from offramp.passes.memory.sharing import share
from offramp.search import Search

LARGEST = 3.4028234663852886e38
"""The largest float32: stands for infinity (nobody leaves), which JSON cannot say, and negated for
minus infinity (everybody does)."""
MOVING = frozenset({"Slice", "Transpose", "Reshape", "Identity"})
"""Operators between an input and its dequantisation."""
NARROW = 7
"""The largest weight of four bits."""
LIBRARIES = ("apache-tvm", "torch", "onnx", "onnxruntime", "numpy")


def manifest(search: Search, reference: Program, plan: Plan, options: Options) -> Manifest:
    """Everything about a compilation but where its inputs came from and the files' hashes."""
    program, target = search.program, options.target
    return Manifest(
        name=program.name,
        target=target,
        batched=program.batched,
        inputs=input_specs(program),
        outputs=output_specs(program),
        static_cost=cost_entry(reference, target),
        expected_cost=cost_entry(program, target),
        exits=exit_entries(program, target),
        certificate=search.certificate,
        reason=search.reason,
        memory=memory_map(plan),
        blocks=block_entries(program, target),
        candidates=search.candidates,
        curve=search.curve,
    )


def input_specs(program: Program) -> tuple[TensorSpec, ...]:
    """What the network reads."""
    kind = "one sample" if program.batched else "the whole input"
    return tuple(
        _spec(value, str(value.name), f"input, {kind}{_integers_mean(value)}")
        for value in program.inputs
    )


def output_specs(program: Program) -> tuple[TensorSpec, ...]:
    """What the network answers."""
    last = list(program.blocks.values())[-1]
    values = last.operands(last.terminator.operands)
    classes = class_count(program)
    meaning = "answer" if classes is None else f"scores of {classes} classes"
    return tuple(
        _spec(value, name, meaning)
        for value, name in zip(values, program.output_names, strict=False)
    )


def class_count(program: Program) -> int | None:
    """How many classes the network tells apart; None if its answer is no `[1, classes]` scores."""
    last = list(program.blocks.values())[-1]
    values = last.operands(last.terminator.operands)[: len(program.output_names)]
    if len(values) != 1 or values[0].shape is None or values[0].dtype is None:
        return None
    shape = tuple(values[0].shape.numpy())
    is_scores = program.batched and len(shape) == 2 and values[0].dtype.is_floating_point()
    return shape[1] if is_scores and shape[1] > 1 else None


def cost_entry(program: Program, target: str) -> CostEntry:
    """Expected cost of one sample, blocks weighted by their probability of being reached."""
    model = AnalyticalModel(targets.get(target))
    value = cost_models.expected_cost(model, program)
    return CostEntry(expected_cost(program).macs, value, model.unit)


def exit_entries(program: Program, target: str) -> tuple[ExitEntry, ...]:
    """Every exit in order, and the final output."""
    model = AnalyticalModel(targets.get(target))
    last = list(program.blocks.values())[-1]
    predicted = _predicted_costs(program, model)
    entries: list[ExitEntry] = []
    left = 1.0
    for block, cost in zip((*program.exits, last), exit_costs(program), strict=True):
        terminator: Any = block.terminator
        final = block is last
        rate = left if final else block.annotations.rate or 0.0
        left -= rate
        entries.append(
            ExitEntry(
                block=block.name,
                criterion=None if final else terminator.criterion,
                threshold=None if final else _finite(terminator.threshold),
                rate=max(rate, 0.0),
                macs=round(cost.macs),
                value=predicted[block.name],
                accuracy=block.annotations.accuracy,
            )
        )
    return tuple(entries)


def _finite(threshold: float) -> float:
    return min(max(float(threshold), -LARGEST), LARGEST)


def block_entries(program: Program, target: str) -> tuple[BlockEntry, ...]:
    """Static costs by block."""
    model = AnalyticalModel(targets.get(target))
    entries: list[BlockEntry] = []
    for block in program.blocks.values():
        cost = block_cost(block)
        entries.append(
            BlockEntry(
                name=block.name,
                reach=block.annotations.reach,
                macs=round(cost.macs),
                parameters=round(cost.parameters),
                activation_bytes=round(cost.activation_bytes),
                value=model.block(block),
            )
        )
    return tuple(entries)


def memory_map(plan: Plan) -> MemoryMap:
    """Where every buffer of the arena lies, and in which steps it is alive."""
    first = first_steps(plan)
    labels: dict[int, str] = {}
    for block in plan.blocks:
        for index, call in enumerate(block.calls):
            labels[first[block.name] + index] = (
                f"{block.name}: {', '.join(call.nodes) or call.kernel}"
            )
        labels[first[block.name] + len(block.calls)] = f"{block.name}: end"
    buffers = tuple(
        MemoryEntry(item.name, plan.memory.offsets[item.name], item.size, start, end - 1)
        for item in as_problem(plan, share(plan)).items
        for start, end in item.intervals
    )
    memory = plan.memory
    steps = tuple(labels[step] for step in sorted(labels))
    access = memory.access
    return MemoryMap(
        peak=memory.peak,
        lower_bound=memory.lower_bound,
        status=memory.status,
        steps=steps,
        buffers=buffers,
        banks=_banks(plan),
        access=None
        if access is None
        else AccessEntry(access.cycles, access.lower_bound, access.status),
    )


def _banks(plan: Plan) -> tuple[BankEntry, ...]:
    arenas = {arena.memory: arena for arena in plan.memory.arenas}
    copied = copied_bytes(plan, targets.get(plan.target).alignment)
    return tuple(
        BankEntry(
            memory,
            arenas[memory].start if memory in arenas else plan.memory.peak,
            arenas[memory].bytes if memory in arenas else 0,
            copied.get(memory, 0),
        )
        for memory in dict.fromkeys([*arenas, *copied])
    )


def provenance(
    options: Options, reference: Program, model: str, inputs: Mapping[str, str]
) -> dict[str, str]:
    """Versions, options and hashes of the inputs, in the order in which the report shows them."""
    found = {"model": model, "offramp": metadata.version("offramp")}
    found |= {f"{name} SHA-256": value for name, value in inputs.items()}
    if options.board is not None:
        found["board"] = options.board
    found |= {
        "accuracy drop (points)": f"{options.accuracy_drop:g}",
        "confidence": f"{options.confidence:g}",
        "risk": options.risk,
        "seed": str(options.seed),
        "exits": "yes" if options.exits else "no",
        "finetune": "yes" if options.finetune else "no",
        "quantised to": _precision(options, reference),
        "optimised for": options.optimize,
        "patches": f"at most {options.patches:g} % more MACs" if options.patches else "no",
    }
    return found | {library: metadata.version(library) for library in LIBRARIES}


def _precision(options: Options, reference: Program) -> str:
    if options.quantize != "mixed":
        return options.quantize or "as the model is"
    graph = reference.entry.graph
    rounded = [node.outputs[0].dtype for node in graph if node.op_type == "QuantizeLinear"]
    tensors = [v.const_value for v in graph.initializers.values() if v.dtype == ir.DataType.INT8]
    layers = [t.numpy().astype(int) for t in tensors if t is not None and t.size > 1]
    narrow = sum(int(abs(weights).max()) <= NARROW for weights in layers)
    return (
        f"mixed, at most {options.quantize_drop:g} points lost: "
        f"{rounded.count(ir.DataType.INT16)} of {len(rounded)} tensors take 16 bits, weights of "
        f"{narrow} of {len(layers)} layers 4"
    )


def _predicted_costs(program: Program, model: AnalyticalModel) -> dict[str, float]:
    """By block on the trunk: predicted cost of a sample that gets to its end.

    Arms of Branches and Switches count by how often a sample that comes by takes them.
    """
    reach = reach_probabilities(program)
    always = set(trunk(program))
    spent, passing = 0.0, 1.0
    found: dict[str, float] = {}
    for name, block in program.blocks.items():
        if name in always:
            passing = reach[name]
            spent += model.block(block)
            found[name] = spent
        elif passing > 0:
            spent += model.block(block) * reach[name] / passing
    return found


def _integers_mean(value: ir.Value) -> str:
    """What the integers of an input stand for, if all that reads them takes them alike."""
    found: set[tuple[float, float]] = set()
    pending = [value]
    while pending:
        for node in pending.pop().consumers():
            if node.op_type != "DequantizeLinear":
                pending += node.outputs if node.op_type in MOVING else []
                continue
            operands = [v.const_value for v in node.inputs[1:] if v is not None]
            if any(tensor is None or tensor.size != 1 for tensor in operands):
                return ""
            scale, *zero = (float(t.numpy().reshape(())) for t in operands if t is not None)
            found.add((scale, zero[0] if zero else 0.0))
    if len(found) != 1:
        return ""
    ((scale, offset),) = found
    return f", {STAND_FOR}(q - {offset:g}) * {scale:.9g}"


def _spec(value: ir.Value, name: str, meaning: str) -> TensorSpec:
    shape = () if value.shape is None else tuple(value.shape.numpy())
    dtype = "" if value.dtype is None else str(value.dtype.numpy())
    return TensorSpec(name, shape, dtype, meaning)
