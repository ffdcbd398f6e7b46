"""Run lowered programs without a driver: kernels through ctypes, every buffer on its own."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from offramp.backends.tvm.lower import Lowered, lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Branch, Exit, Jump, Program, Return, Successor
from offramp.compiler.plan import BlockPlan, Storage

Array = npt.NDArray[Any]
POISON = 7e7
"""Fills buffers before anything is written, so that a read too early or too far shows."""


BASE_PROCESSOR = "x86-64 base"
"""x86-64 without its extension: what runs on processors that lack it."""


def target_named(name: str) -> targets.Target:
    """A target by name, or `BASE_PROCESSOR`."""
    if name == BASE_PROCESSOR:
        return replace(targets.get("x86-64"), extension=None)
    return targets.get(name)


class PlanRunner:
    """Interprets a plan; results overwrite an operand wherever the plan allows it."""

    def __init__(self, lowered: Lowered, folder: Path) -> None:
        self.plan = lowered.plan
        self.blocks = {block.name: block for block in self.plan.blocks}
        self._library = ctypes.CDLL(str(_build(lowered, folder)))
        self._memory: dict[str, Array] = {}

    def run(self, *inputs: Array) -> list[Array]:
        """The answer to one sample."""
        self._fresh_memory()
        block = self.plan.blocks[0]
        for name, value in zip(block.parameters, inputs, strict=True):
            self._array(name)[:] = value.reshape(-1)
        while True:
            for call in block.calls:
                self._share(call.arguments, call.in_place)
                pointers = [self._array(name).ctypes.data for name in call.arguments]
                scratch = np.empty(call.workspace + 1, np.uint8)
                extra = [scratch.ctypes.data] if call.workspace else []
                function = self._library[call.kernel]
                function.argtypes = [ctypes.c_void_p] * len(pointers + extra)
                function(*pointers, *extra)
            following = self._next(block)
            if isinstance(following, tuple):
                return [self._answer(block.operands[p]) for p in following]
            block = self._enter(block, following)

    def _next(self, block: BlockPlan) -> Successor | tuple[int, ...]:
        match block.terminator:
            case Return(values):
                return values
            case Exit() as leave:
                score = float(self._array(block.operands[leave.score])[0])
                return leave.values if score >= leave.threshold else leave.else_
            case Branch(when, then, else_):
                return then if self._array(block.operands[when])[0] else else_
            case Jump(to):
                return to
            case other:
                raise AssertionError(f"no test uses {other}")

    def _enter(self, block: BlockPlan, successor: Successor) -> BlockPlan:
        target = self.blocks[successor.block]
        for parameter, position in zip(target.parameters, successor.args, strict=True):
            if self._root(parameter) != self._root(block.operands[position]):
                self._array(parameter)[:] = self._array(block.operands[position])
        return target

    def _fresh_memory(self) -> None:
        for name, buffer in self.plan.buffers.items():
            if buffer.storage is Storage.CONSTANT and buffer.data is not None:
                self._memory[name] = np.ascontiguousarray(buffer.data).reshape(-1)
            elif buffer.alias_of is None:
                fill = POISON if buffer.dtype == "float32" else 1
                self._memory[name] = np.full(int(np.prod(buffer.shape)), fill, buffer.dtype)

    def _share(self, arguments: tuple[str, ...], pairs: tuple[tuple[int, int], ...]) -> None:
        for written, read in pairs[:1]:
            source, result = self._root(arguments[read]), self._root(arguments[written])
            longer = max(self._memory[source].size, self._memory[result].size)
            shared = np.zeros(longer, self._memory[source].dtype)
            shared[: self._memory[source].size] = self._memory[source]
            self._memory[source] = self._memory[result] = shared

    def _root(self, name: str) -> str:
        return self.plan.buffers[name].alias_of or name

    def _array(self, name: str) -> Array:
        whole = self._memory[self._root(name)]
        start = self.plan.buffers[name].offset // whole.itemsize
        return whole[start:]

    def _answer(self, name: str) -> Array:
        shape = self.plan.buffers[name].shape
        return self._array(name)[: int(np.prod(shape))].reshape(shape).copy()


def _build(lowered: Lowered, folder: Path) -> Path:
    """A shared library of the kernels; C targets are compiled for the machine that tests run on."""
    library = folder / "kernels.so"
    if lowered.kernels.target.llvm:
        source = folder / "kernels.o"
        lowered.kernels.to_object(source)
        flags: list[str] = []
    else:
        source = folder / "kernels.c"
        source.write_text(lowered.kernels.to_c())
        flags = ["-std=c99", "-O1", "-fPIC", "-Wall", "-Werror", "-Wno-unused"]
        flags += ["-Wno-maybe-uninitialized"]  # TVM's reductions begin inside their loops
    subprocess.run(["gcc", "-shared", *flags, "-o", library, source, "-lm"], check=True, cwd=folder)
    return library


Execute = Callable[[Program, str, list[Array]], list[Array]]
Check = Callable[[onnx.ModelProto, str, list[Array]], Lowered]


@pytest.fixture(scope="session")
def execute(tmp_path_factory: pytest.TempPathFactory) -> Execute:
    """Lower a program for a target, compile it and run it on one sample."""

    def run(program: Program, target: str, inputs: list[Array]) -> list[Array]:
        lowered = lower(program, target_named(target))
        return PlanRunner(lowered, tmp_path_factory.mktemp("kernels")).run(*inputs)

    return run


@pytest.fixture(scope="session")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Compile a model for a target and compare its answers with onnxruntime's."""

    def compare(model: onnx.ModelProto, target: str, inputs: list[Array]) -> Lowered:
        lowered = lower(from_onnx(model, batched=False), target_named(target))
        found = PlanRunner(lowered, tmp_path_factory.mktemp("kernels")).run(*inputs)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        feed = {v.name: x for v, x in zip(session.get_inputs(), inputs, strict=True)}
        for answer, value in zip(session.run(None, feed), found, strict=True):
            expected = np.asarray(answer)
            assert value.shape == expected.shape
            is_real = np.issubdtype(expected.dtype, np.floating)
            scale = max(float(np.abs(expected).max()), 1e-3) if is_real else 0.0
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-4 * scale)
        return lowered

    return compare
