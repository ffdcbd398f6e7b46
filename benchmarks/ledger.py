"""What of ONNX compiles: the standard's own node tests through the whole x86-64 back end.

    python benchmarks/ledger.py                     all cases; writes docs/results/ledger.{md,json}
    python benchmarks/ledger.py --filter softmax    only cases with that in their name; prints
    python benchmarks/ledger.py --resume            goes on where an interrupted run stopped

Every case goes through front end, simplification, lowering, memory planning, code generation and
the C driver; the shared library runs on the test's inputs and its outputs are compared with the
expected ones at the test's own tolerances. Cases run in worker processes: one that crashes or
hangs is recorded as our failure. A case that is refused because an operand that decides shapes is
an input of the network is tried again with that operand as a constant, and counted apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
UNFINISHED = ROOT / "build" / "ledger.jsonl"

PASS, CONSTANT, REFUSED = "pass", "pass with constants", "refused"
WRONG, FAILED, CRASHED, HUNG = "wrong answer", "internal failure", "crash", "timeout"
FAILURES = (WRONG, FAILED, CRASHED, HUNG)

PATIENCE = 20
"""A process that uses no processor time is given up after so many times the limit."""

STRUCTURAL = frozenset(
    {
        *("shape", "axes", "axis", "K", "k", "depth", "repeats", "pads", "split", "scales"),
        *("sizes", "size", "roi", "starts", "ends", "steps", "start", "limit", "delta"),
        *("output_shape", "image_shape", "block_shape", "target_shape", "input_shape"),
        *("dft_length", "frame_step", "frame_length", "window", "num_mel_bins", "sample_rate"),
        *("lower_edge_hertz", "upper_edge_hertz", "training_mode", "ratio", "condition", "M"),
        *("max_output_boxes_per_class", "iou_threshold", "score_threshold"),
    }
)
"""Formal input names, in ONNX's schemas, of operands that decide shapes or control."""


@dataclass(frozen=True)
class Row:
    """One test case: what became of it, and the message where it was not compiled."""

    case: str
    operator: str
    outcome: str
    message: str = ""


def cases() -> dict[str, Any]:
    """ONNX's node tests by name, without those that only spell out a function body."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {case.name: case for case in load_model_tests(kind="node")}
    return {name: found[name] for name in sorted(found) if "_expanded" not in name}


def run_case(case: Any) -> Row:
    """Compile and run one case, if need be with its structural operands as constants."""
    row = _attempt(case, frozenset())
    if row.outcome != REFUSED:
        return row
    structural = _structural_inputs(case.model.graph)
    if structural and _attempt(case, structural).outcome == PASS:
        return Row(row.case, row.operator, CONSTANT, row.message)
    return row


def _attempt(case: Any, constants: frozenset[str]) -> Row:
    from offramp.compiler.errors import UserError

    operator = _operator(case.model.graph)
    try:
        _compile_and_compare(case, constants)
    except UserError as error:
        return Row(case.name, operator, REFUSED, _without_node(str(error)))
    except AssertionError as error:
        return Row(case.name, operator, WRONG, " ".join(str(error).split())[:200])
    except Exception as error:
        return Row(case.name, operator, FAILED, f"{type(error).__name__}: {str(error)[:200]}")
    return Row(case.name, operator, PASS)


def _compile_and_compare(case: Any, constants: frozenset[str]) -> None:
    from onnx.backend.test.runner import Runner

    from offramp.backends.x86_64.backend import BACKEND
    from offramp.compiler.frontends.onnx import from_onnx
    from offramp.observer import Observer
    from offramp.options import Options
    from offramp.pipeline import lower, simplify

    options = Options(target="x86-64", exits=False)
    model = _with_constants(case, constants)
    program = from_onnx(model, name="case", batched=False)
    lowered = lower(simplify(program, options, Observer()), options)
    with tempfile.TemporaryDirectory(prefix="offramp-ledger-") as folder:
        BACKEND.emit(lowered, Path(folder))
        runner = BACKEND.load(Path(folder))
        for inputs, expected in case.data_sets:
            names = [value.name for value in case.model.graph.input]
            feeds = dict(zip(names, map(_array, inputs), strict=True))
            answers = runner.run({n: a for n, a in feeds.items() if n not in constants})
            outputs = [answers.outputs[value.name] for value in case.model.graph.output]
            wanted = [_array(value) for value in expected]
            Runner.assert_similar_outputs(wanted, outputs, rtol=case.rtol, atol=case.atol)


def _with_constants(case: Any, names: frozenset[str]) -> Any:
    """The case's model, the inputs called `names` turned into initializers."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for value, data in zip(case.model.graph.input, case.data_sets[0][0], strict=True):
        if value.name in names:
            model.graph.input.remove(value)
            model.graph.initializer.append(onnx.numpy_helper.from_array(_array(data), value.name))
    return model


def _structural_inputs(graph: Any) -> frozenset[str]:
    """Graph inputs that a node reads where its schema has a structural operand."""
    import onnx

    inputs = {value.name for value in graph.input}
    found: set[str] = set()
    for node in graph.node:
        if onnx.defs.has(node.op_type, node.domain):
            formal = onnx.defs.get_schema(node.op_type, domain=node.domain).inputs
            pairs = zip(node.input, formal, strict=False)
            found |= {actual for actual, declared in pairs if declared.name in STRUCTURAL}
    return frozenset(found & inputs)


def _array(value: Any) -> Any:
    import numpy as np
    import onnx

    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return value if isinstance(value, list | dict) else np.asarray(value)


def _operator(graph: Any) -> str:
    first = graph.node[-1]
    return f"{first.domain}.{first.op_type}" if first.domain else first.op_type


def _without_node(message: str) -> str:
    """The message without the name of one node, so that equal refusals read the same."""
    return " ".join(re.sub(r"\(node '[^']*'\)", "(node …)", message).split())


def _serve(connection: Connection) -> None:
    """A worker process: names in, rows out."""
    warnings.simplefilter("ignore")
    known = cases()
    connection.send(None)
    for name in iter(connection.recv, None):
        connection.send(run_case(known[name]))


def _cpu_seconds(pid: int | None) -> float:
    """Processor time of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A process that runs cases one after another and is replaced when it dies or hangs."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._start()

    def run(self, name: str, operator: str) -> Row:
        """The row of one case, whatever happens to the process."""
        self._connection.send(name)
        try:
            if self._answers():
                row: Row = self._connection.recv()
                return row
            outcome, message = HUNG, f"no answer within {self._timeout:g} s"
        except (EOFError, ConnectionResetError):
            self._process.join()
            outcome, message = CRASHED, f"the process died with code {self._process.exitcode}"
        self.stop()
        self._start()
        return Row(name, operator, outcome, message)

    def _answers(self) -> bool:
        """Wait for an answer, in seconds of the process's own time: a busy machine is no fault."""
        limit = _cpu_seconds(self._process.pid) + self._timeout
        for _ in range(int(PATIENCE * self._timeout)):
            if self._connection.poll(1.0):
                return True
            if _cpu_seconds(self._process.pid) > limit:
                break
        return False

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.recv()


def run_all(names: Sequence[str], workers: int, timeout: float) -> Iterator[Row]:
    """Rows as they come, from several worker processes."""
    operators = {name: _operator(case.model.graph) for name, case in cases().items()}
    pool = [Worker(timeout) for _ in range(min(workers, len(names)))]
    free = list(pool)

    def run(name: str) -> Row:
        worker = free.pop()
        try:
            return worker.run(name, operators[name])
        finally:
            free.append(worker)

    try:
        with ThreadPoolExecutor(max(len(pool), 1)) as threads:
            yield from threads.map(run, names)
    finally:
        for worker in pool:
            worker.stop()


def counts(rows: Iterable[Row]) -> Counter[str]:
    """How many rows have each outcome."""
    return Counter(row.outcome for row in rows)


def write_results(rows: Sequence[Row]) -> None:
    """Write the committed table and its data."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    ordered = sorted(rows, key=lambda row: row.case)
    data = [{k: v for k, v in asdict(row).items() if v} for row in ordered]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in data)
    (RESULTS / "ledger.json").write_text(f"[\n{lines}\n]\n")
    (RESULTS / "ledger.md").write_text(render(ordered))


def render(rows: Sequence[Row]) -> str:
    """The ledger as Markdown: counts, a table by operator, and every refusal."""
    tally, total = counts(rows), len(rows)
    passed = tally[PASS]
    lines = [
        "# What of ONNX compiles",
        "",
        "ONNX's own node tests through the whole x86-64 back end, at the tests' tolerances.",
        "Written by `python benchmarks/ledger.py`.",
        "",
        f"- {total} cases, **{passed} pass ({100 * passed / total:.1f} %)**",
        f"- {tally[CONSTANT]} more pass when the operand that decides a shape (axes, sizes, ...),",
        "  an input of the network in the test, is a constant, as it is in trained models",
        f"- {tally[REFUSED]} are refused with a message",
        f"- {sum(tally[f] for f in FAILURES)} fail: "
        + ", ".join(f"{tally[f]} {f}" for f in FAILURES),
        "",
        "## By operator",
        "",
        "| operator | cases | pass | with constants | refused | fail |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    by_operator: dict[str, list[Row]] = {}
    for row in rows:
        by_operator.setdefault(row.operator, []).append(row)
    for operator, group in sorted(by_operator.items()):
        t = counts(group)
        failed = sum(t[f] for f in FAILURES)
        lines.append(
            f"| {operator} | {len(group)} | {t[PASS]} | {t[CONSTANT]} | {t[REFUSED]} | {failed} |"
        )
    for outcome in (*FAILURES, REFUSED, CONSTANT):
        lines += _messages(outcome, [row for row in rows if row.outcome == outcome])
    return "\n".join(lines) + "\n"


def _messages(outcome: str, rows: Sequence[Row]) -> list[str]:
    """One section: every message with the cases that it is given for."""
    if not rows:
        return []
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        groups.setdefault((row.operator, row.message), []).append(row.case)
    lines = ["", f"## {outcome.capitalize()}", ""]
    for (operator, message), names in sorted(groups.items()):
        lines.append(f"- **{operator}** ({len(names)}): {message}")
        lines.append("  " + " ".join(f"`{name}`" for name in names))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, show progress, and write or print the results; 1 if a case fails through our fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--filter", default="", help="only cases whose name contains this")
    parser.add_argument("--cases", nargs="*", help="only these cases")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60.0, help="processor seconds a case")
    parser.add_argument("--resume", action="store_true", help="keep what an earlier run finished")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args(arguments)
    every = list(cases())
    wanted = [n for n in (options.cases or every) if options.filter in n]
    complete = wanted == every
    started = time.monotonic()
    rows = _collect(wanted, options, keep=complete)
    if complete:
        write_results(rows)
        UNFINISHED.unlink(missing_ok=True)
    _report(rows, options.json, complete, time.monotonic() - started)
    return int(any(row.outcome in FAILURES for row in rows))


def _collect(names: Sequence[str], options: argparse.Namespace, keep: bool) -> list[Row]:
    """Run what is missing; rows of a complete run are kept on disk as they come."""
    rows: list[Row] = []
    UNFINISHED.parent.mkdir(exist_ok=True)
    if keep and options.resume and UNFINISHED.exists():
        rows = [Row(**json.loads(line)) for line in UNFINISHED.read_text().splitlines()]
    elif keep:
        UNFINISHED.write_text("")
    missing = sorted(set(names) - {row.case for row in rows})
    for row in run_all(missing, options.workers, options.timeout):
        rows.append(row)
        if keep:
            with UNFINISHED.open("a") as log:
                log.write(json.dumps(asdict(row)) + "\n")
        if not options.json:
            print(f"{len(rows):5}/{len(names)} {row.outcome:20} {row.case}", file=sys.stderr)
    return rows


def _report(rows: Sequence[Row], as_json: bool, complete: bool, seconds: float) -> None:
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    for row in rows:
        if not complete and row.outcome != PASS:
            print(f"{row.case}: {row.outcome}: {row.message}")
    print(f"{len(rows)} cases in {seconds:.0f} s:", dict(counts(rows)))


if __name__ == "__main__":
    sys.exit(main())
