"""The shared library in a process: callbacks, threads, the standalone loader, what is exported."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offramp import backends
from offramp.backends import tools
from offramp.backends.x86_64.loader import Network
from offramp.backends.x86_64.measure import Instruments
from offramp.compiler.errors import ToolError, UserError

pytestmark = pytest.mark.parametrize("target", ["x86-64"], indirect=True, scope="session")


def stopped_after(network: Network, calls: int) -> tuple[int, list[tuple[int, int]]]:
    """Run one sample that no threshold lets out; stop at callback number `calls`."""
    context, _arena = network.new_context([float("nan")] * 2)
    seen: list[tuple[int, int]] = []

    def between_blocks(_context: int, _user: int) -> int:
        seen.append((context.exit_index, context.next_block))
        return int(len(seen) >= calls)

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    callback = kind(between_blocks)
    context.between_blocks = ctypes.cast(callback, ctypes.c_void_p).value
    sample = np.array([[1, 1, 1, 1]], np.float32)
    ctypes.memmove(network.c_input(ctypes.byref(context), 0), sample.ctypes.data, sample.nbytes)
    return int(network.c_run(ctypes.byref(context))), seen


def test_a_deadline_takes_the_best_answer_so_far(zoo_folder: Path) -> None:
    network = Network(zoo_folder)
    where, seen = stopped_after(network, 2)
    assert where == 0
    assert seen == [(0, 1), (0, 2)]  # after the first exit, then after the branch
    assert stopped_after(network, 6)[0] == 1
    assert stopped_after(network, 99)[0] == 2


def test_threads_do_not_disturb_each_other(zoo_runner: Any) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.integers(-8, 8, (500, 4)).astype(np.float32) for _ in range(8)]
    feeds = [{"x": x, "count": np.arange(500)} for x in batches]
    alone = [zoo_runner.run(feed).outputs["y"] for feed in feeds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda feed: zoo_runner.run(feed).outputs["y"], feeds))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_library_exports_the_c_api_only(zoo_folder: Path) -> None:
    listing = tools.run(["nm", "-D", "--defined-only", zoo_folder / "libzoo.so"])
    names = {line.split()[-1] for line in listing.splitlines()}
    assert names == {f"zoo_{f}" for f in ("init", "input", "run", "output", "run_batch")}


def test_the_loader_beside_the_library_needs_numpy_only(zoo_folder: Path) -> None:
    script = (
        "import sys, numpy as np; from zoo import Network;"
        "y, e, c = Network().run([np.ones((2, 1, 4), np.float32), np.zeros((2, 1), np.int64)]);"
        "print(y[0].shape, e.tolist(), 'offramp' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=zoo_folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(2, 1, 3) [2, 2] False"


def test_block_times_name_the_blocks_that_ran(zoo_runner: Any) -> None:
    blocks = zoo_runner.bench({"x": np.ones((1, 4), np.float32), "count": np.zeros(1, int)}).blocks
    assert list(blocks) == ["first */ block", "gate", "negate", "route", "case0", "second", "last"]
    assert all(time > 0 for time in blocks.values())


def test_a_library_that_does_not_load_is_the_users_message(
    zoo_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "interface.json").write_text((zoo_folder / "interface.json").read_text())
    (tmp_path / "libzoo.so").write_bytes(b"no library")
    with pytest.raises(UserError, match=r"cannot load .*libzoo\.so"):
        backends.get("x86-64").load(tmp_path)


def test_a_missing_compiler_says_what_to_install(
    zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="gcc was not found on PATH: install gcc"):
        backends.get("x86-64").emit(zoo.lowered, tmp_path)
    with pytest.raises(ToolError, match="install gcc"):
        Instruments()


def test_stack_is_at_least_what_a_kernel_uses(zoo: Any, zoo_folder: Path) -> None:
    network = Network(zoo_folder)
    sample: list[Any] = [np.ones((1, 1, 4), np.float32), np.zeros((1, 1), np.int64)]
    depth = Instruments().stack(network, np.array([np.nan, np.nan]), sample)
    assert 128 <= depth < 2048
