"""What every backend must do. A new target joins by one more value of the fixture `target`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from offramp import backends
from offramp.backends.base import Backend, Runner
from offramp.backends.driver import interface
from offramp.backends.samples import forcing
from offramp.compiler import targets
from offramp.compiler.errors import InternalError, UserError
from offramp.compiler.ir import Return
from offramp.compiler.plan import BlockPlan, Buffer, KernelCall, MemoryPlan, Plan
from offramp.passes.memory import plan_memory

Inputs = dict[str, npt.NDArray[Any]]


def samples(count: int, seed: int = 0) -> Inputs:
    """Samples that take every way through the zoo."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-8, 8, (count, 4)).astype(np.float32)
    return {"x": x, "count": rng.integers(0, 9, count)}


def test_answers_exits_and_scores_are_those_of_the_network(zoo: Any, zoo_runner: Runner) -> None:
    inputs = samples(64)
    got = zoo_runner.run(inputs)
    answers, exits, scores = zoo.reference(inputs["x"], inputs["count"], (10.0, 100.0))
    assert set(exits) == {0, 1, 2}
    assert got.exit_index.tolist() == exits
    np.testing.assert_array_equal(got.outputs["y"], np.stack(answers))
    np.testing.assert_array_equal(got.confidence, np.array(scores, np.float32))
    assert [got.exit_index.dtype.name, got.confidence.dtype.name] == ["int64", "float32"]


def test_thresholds_move_at_run_time(zoo: Any, zoo_runner: Runner) -> None:
    inputs = samples(32, seed=1)
    for thresholds in ((0.0, 20.0), (-5.0, 1e9)):
        answers, exits, _ = zoo.reference(inputs["x"], inputs["count"], thresholds)
        got = zoo_runner.run(inputs, thresholds)
        assert got.exit_index.tolist() == exits
        np.testing.assert_array_equal(got.outputs["y"], np.stack(answers))


def test_a_sample_does_not_depend_on_its_companions(zoo_runner: Runner) -> None:
    inputs = samples(9, seed=2)
    together = zoo_runner.run(inputs)
    for i in (0, 4, 8):
        alone = zoo_runner.run({name: array[i : i + 1] for name, array in inputs.items()})
        assert alone.exit_index[0] == together.exit_index[i]
        np.testing.assert_array_equal(alone.outputs["y"][0], together.outputs["y"][i])


def test_a_score_that_is_no_number_stays(zoo_runner: Runner) -> None:
    x = np.array([[np.nan, 0, 0, 0]], np.float32)
    got = zoo_runner.run({"x": x, "count": np.array([3])}, [-np.inf, -np.inf])
    assert got.exit_index.tolist() == [2]


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_every_exit_can_be_forced(zoo_runner: Runner, wanted: int) -> None:
    got = zoo_runner.run(samples(8), forcing(zoo_runner.interface, wanted))
    assert set(got.exit_index.tolist()) == {wanted}


def test_the_interface_describes_the_network(zoo_runner: Runner) -> None:
    found = zoo_runner.interface
    assert [(t.name, t.shape, t.dtype) for t in found.inputs] == [
        ("x", (1, 4), "float32"),
        ("count", (1,), "int64"),
    ]
    assert [(t.name, t.shape) for t in found.outputs] == [("y", (1, 3))]
    assert [point.threshold for point in found.exits] == [10.0, 100.0]
    assert found.macs == (30, 90, 110)  # the longer arm, one case


def test_bench_measures_every_exit_and_memory(zoo_runner: Runner) -> None:
    bench = zoo_runner.bench(samples(2))
    unit = targets.get(zoo_runner.interface.target).cost_unit
    assert [cost.exit_index for cost in bench.per_exit] == [0, 1, 2]
    assert [cost.macs for cost in bench.per_exit] == [30, 90, 110]
    assert {(cost.unit, cost.source) for cost in bench.per_exit} == {(unit, "measured")}
    assert 0 < bench.per_exit[0].value < bench.per_exit[2].value
    assert bench.ram.arena == zoo_runner.interface.arena
    assert bench.ram.static >= 0
    assert 0 < bench.ram.stack < 4096
    assert bench.flash.code > 0
    assert bench.flash.weights >= (3 * 4 + 4 + 2) * 4


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.zeros((2, 4), np.float32)}, "takes the inputs x, count, found x"),
        ({"x": np.zeros((2, 5), np.float32)}, r"input 'x' of zoo is float32 \[N, 4\], found"),
        ({"x": np.zeros((2, 4))}, r"found float64 \[2, 4\]"),
        ({"x": np.zeros((3, 4), np.float32)}, "differ in their number of samples: x: 3, count: 2"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    zoo_runner: Runner, inputs: Inputs, message: str
) -> None:
    if "takes" not in message:
        inputs = inputs | {"count": np.zeros(2, np.int64)}
    with pytest.raises(UserError, match=message):
        zoo_runner.run(inputs)


def test_thresholds_must_be_one_per_exit(zoo_runner: Runner) -> None:
    with pytest.raises(UserError, match="has 2 exits, found thresholds of shape"):
        zoo_runner.run(samples(1), [0.5])


def test_code_is_not_loaded_from_an_empty_folder(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=interface.FILE):
        backend.load(tmp_path)


def test_nothing_is_emitted_without_a_memory_plan(
    zoo: Any, backend: Backend, tmp_path: Path
) -> None:
    plan = replace(zoo.lowered.plan, memory=MemoryPlan({}, 0, 0, "none", 0.0))
    with pytest.raises(InternalError, match="memory plan"):
        backend.emit(replace(zoo.lowered, plan=plan), tmp_path)


def test_a_network_without_inputs_answers_once(
    zoo: Any, target: str, backend: Backend, tmp_path: Path
) -> None:
    buffers = {n: zoo.lowered.plan.buffers[n] for n in ("bias1", "ones")}
    buffers["y"] = Buffer("y", (4,), "float32")
    call = KernelCall("zoo_add", ("bias1", "ones", "y"))
    block = BlockPlan("only", (call,), (), ("y",), Return((0,)))
    plan = plan_memory(Plan("zoo", target, buffers, (block,), (), ("y",), batched=False))
    backend.emit(replace(zoo.lowered, plan=plan), tmp_path)
    runner = backend.load(tmp_path)
    np.testing.assert_array_equal(runner.run({}).outputs["y"], zoo.biases[1] + 1)
    assert runner.bench({}).per_exit[0].value > 0


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"'z80': expected one of x86-64, cortex-m4, cortex-m7, cortex-m55, riscv32",
    ):
        backends.get("z80")


@pytest.mark.shared
@pytest.mark.parametrize("model", ["kws_dscnn", "ad_fcae"])
def test_real_networks_agree_with_their_samples(
    model: str, target: str, backend: Backend, shared: Path, tmp_path: Path
) -> None:
    """Compiled without exits; expected within 1e-4 of the output's scale."""
    from offramp.backends.tvm.lower import lower
    from offramp.compiler.frontends.onnx import from_onnx

    program = from_onnx(shared / "models" / f"{model}_float.onnx")
    lowered = lower(program, targets.get(target))
    backend.emit(replace(lowered, plan=plan_memory(lowered.plan)), tmp_path)
    data = np.load(shared / "models" / f"{model}_float_samples.npz")
    runner = backend.load(tmp_path)
    (tensor,) = runner.interface.inputs
    x = data["x"].astype(np.float32).reshape(-1, *tensor.shape[1:])[:4]
    (got,) = runner.run({tensor.name: x}).outputs.values()
    expected = data["y"].reshape(-1, *got.shape[1:])[:4]
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
