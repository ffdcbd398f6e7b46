"""The driver's two C files, written from a Plan."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from offramp.backends.driver.constants import Constants, literal
from offramp.backends.driver.ctypes_of import c_type
from offramp.backends.driver.interface import Interface, Tensor, answer_values
from offramp.backends.driver.memories import ArenaArray, StaticArrays
from offramp.compiler.errors import UnsupportedError
from offramp.compiler.ir import Branch, Exit, Jump, Return, Successor, Switch
from offramp.compiler.plan import BlockPlan, KernelCall, Plan, Storage
from offramp.passes.memory.liveness import copies, root, workspace_name


def environment(package: str) -> Environment:
    """Templates of a backend's package, for C: no escaping, undefined names are errors."""
    return Environment(  # noqa: S701 - the output is C, not HTML
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@dataclass(frozen=True)
class Driver:
    """C text: the public header, and the source that implements it over the kernels."""

    header: str
    source: str


def render_driver(
    plan: Plan,
    interface: Interface,
    constants: Constants,
    arrays: StaticArrays,
    prototypes: str,
    *,
    batch: bool,
) -> Driver:
    """Render the driver of a plan with addresses; `batch` adds `NAME_run_batch`.

    Raises:
        UnsupportedError: a score, or an input or output, of a type that the C API has not.
    """
    writer = _Writer(plan, constants, arrays.arenas)
    values: dict[str, Any] = {
        "name": plan.name,
        "NAME": plan.name.upper(),
        "target": plan.target,
        "inputs": [
            _tensor(tensor) | {"address": writer.input_address(buffer)}
            for tensor, buffer in zip(interface.inputs, plan.blocks[0].parameters, strict=True)
        ],
        "outputs": [_tensor(tensor) for tensor in interface.outputs],
        "exits": [
            {
                "literal": literal(np.float32(point.threshold)),
                "comment": comment(f"{point.criterion} at the end of {point.block}"),
            }
            for point in interface.exits
        ],
        "blocks": interface.blocks,
        "arenas": arrays.arenas,
        "copied": arrays.copied,
        "alignment": interface.alignment,
        "batch": batch,
        "prototypes": prototypes,
        "constants": constants.declarations,
        "block_list": [writer.block(block) for block in plan.blocks],
        "answers": writer.answers(),
    }
    templates = environment("offramp.backends.driver")
    return Driver(
        templates.get_template("api.h.j2").render(values),
        templates.get_template("driver.c.j2").render(values),
    )


def comment(text: str) -> str:
    """`text` as the inside of a C comment."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ")


def _tensor(tensor: Tensor) -> dict[str, Any]:
    elements = prod(tensor.shape)
    shape = "x".join(str(extent) for extent in tensor.shape) or "scalar"
    return {
        "ctype": c_type(tensor.dtype),
        "elements": elements,
        "bytes": elements * np.dtype(tensor.dtype).itemsize,
        "comment": comment(f"{tensor.name}, {tensor.dtype} {shape}"),
    }


class _Writer:
    """C statements for the blocks of one plan."""

    def __init__(self, plan: Plan, constants: Constants, arenas: tuple[ArenaArray, ...]) -> None:
        self._plan = plan
        self._arenas = arenas
        self._constants = constants
        self._number = {block.name: number for number, block in enumerate(plan.blocks)}
        self._exits = [b.name for b in plan.blocks if isinstance(b.terminator, Exit)]

    def block(self, block: BlockPlan) -> dict[str, Any]:
        """One block as comment, calls, and what leaves it."""
        calls = [self._call(block, index, call) for index, call in enumerate(block.calls)]
        return {"comment": comment(block.name), "calls": calls, "leave": self._leave(block)}

    def answers(self) -> list[str]:
        """The address of every output at every exit, the final output last."""
        return [
            self._address(block.operands[position])
            for block in self._plan.blocks
            for position in answer_values(block)
        ]

    def input_address(self, name: str) -> str:
        """The address of an input of the network, from outside the blocks."""
        return f"context->{self._address(name)}"

    def _address(self, name: str) -> str:
        base = root(self._plan, name)
        if self._plan.buffers[base].storage is Storage.CONSTANT:
            return self._constants.address[base]
        return self._at(self._plan.memory.offsets[name])

    def _at(self, offset: int) -> str:
        arena = max((a for a in self._arenas if a.start <= offset), key=lambda a: a.start)
        return f"{arena.variable} + {offset - arena.start}"

    def _call(self, block: BlockPlan, index: int, call: KernelCall) -> str:
        pointers = [f"(void *)({self._address(name)})" for name in call.arguments]
        if call.workspace:
            scratch = self._at(self._plan.memory.offsets[workspace_name(block, index)])
            pointers.append(f"(void *)({scratch})")
        separator = ",\n        "
        return f"{call.kernel}({separator.join(pointers)});"

    def _leave(self, block: BlockPlan) -> list[str]:
        match block.terminator:
            case Return() as end:
                return self._return(block, end)
            case Exit() as end:
                return self._exit(block, end)
            case Branch() as end:
                return self._branch(block, end)
            case Switch() as end:
                return self._switch(block, end)
            case Jump(to):
                return self._go(block, to)

    def _return(self, block: BlockPlan, end: Return) -> list[str]:
        lines = [f"context->exit_index = {len(self._exits)};"]
        if end.confidence is None:
            return [*lines, "context->confidence = NAN;", "return -1;"]
        score = self._load("score", block, end.confidence, ("float32", "float64"))
        return [*score, *lines, "context->confidence = (float)score;", "return -1;"]

    def _exit(self, block: BlockPlan, end: Exit) -> list[str]:
        number = self._exits.index(block.name)
        return [
            *self._load("score", block, end.score, ("float32", "float64")),
            f"context->exit_index = {number};",
            "context->confidence = (float)score;",
            f"if (score >= context->thresholds[{number}])",
            "    return -1;",
            *self._go(block, end.else_),
        ]

    def _branch(self, block: BlockPlan, end: Branch) -> list[str]:
        return [
            *self._load("taken", block, end.when, ("bool",)),
            "if (taken) {",
            *_indented(self._go(block, end.then)),
            "}",
            *self._go(block, end.else_),
        ]

    def _switch(self, block: BlockPlan, end: Switch) -> list[str]:
        lines = self._load("index", block, end.index, ("int64", "int32", "int16", "int8", "uint8"))
        for number, case in enumerate(end.cases[:-1]):
            lines += [f"if (index <= {number}) {{", *_indented(self._go(block, case)), "}"]
        return [*lines, *self._go(block, end.cases[-1])]

    def _load(
        self, variable: str, block: BlockPlan, operand: int, dtypes: tuple[str, ...]
    ) -> list[str]:
        """Read one scalar that decides; through memcpy, since the arena is bytes."""
        buffer = self._plan.buffers[block.operands[operand]]
        if buffer.dtype not in dtypes:
            raise UnsupportedError(
                f"the {variable} that block {block.name!r} decides by has element type "
                f"{buffer.dtype}: expected {' or '.join(dtypes)}; cast it in the model"
            )
        source = self._address(buffer.name)
        return [
            f"{c_type(buffer.dtype)} {variable};",
            f"memcpy(&{variable}, {source}, sizeof {variable});",
        ]

    def _go(self, block: BlockPlan, to: Successor) -> list[str]:
        lines: list[str] = []
        for copy in copies(self._plan, block, to):
            source, target = self._address(copy.source), self._address(copy.target)
            if source != target:
                size = self._plan.buffers[copy.target].nbytes
                lines.append(f"memcpy({target}, {source}, {size});")
        return [*lines, f"return {self._number[to.block]};"]


def _indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]
