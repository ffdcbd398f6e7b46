"""How many bytes of each buffer an inference loads and stores, on average."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from offramp.compiler.plan import BlockPlan, KernelCall, Plan
from offramp.passes.memory.liveness import copies, root, workspace_name


def expected_traffic(plan: Plan, reach: Mapping[str, float]) -> dict[str, float]:
    """Bytes by buffer (views count as what they view) and by workspace.

    reach: probability that a sample reaches each block, by its name. Inputs and answers also count
    once: somebody writes and reads them.
    """
    moved: defaultdict[str, float] = defaultdict(float)
    for block in plan.blocks:
        for index, call in enumerate(block.calls):
            for name, count in _of_call(plan, block, index, call):
                moved[name] += reach[block.name] * count
        for successor in block.terminator.successors:
            for copy in copies(plan, block, successor):
                for name in (copy.source, copy.target):
                    size = plan.buffers[name].nbytes
                    moved[root(plan, name)] += reach[successor.block] * size
    for name in plan.blocks[0].parameters:
        moved[root(plan, name)] += plan.buffers[name].nbytes
    return dict(moved)


def _of_call(plan: Plan, block: BlockPlan, index: int, call: KernelCall) -> list[tuple[str, int]]:
    names = [root(plan, name) for name in call.arguments]
    sizes = [plan.buffers[name].nbytes for name in call.arguments]
    if call.workspace:
        names.append(workspace_name(block, index))
        sizes.append(2 * call.workspace)
    return list(zip(names, call.traffic or sizes, strict=True))
