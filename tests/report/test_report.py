"""The report: right numbers, self-contained, and alive in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from offramp.compiler.ir import Block, Exit, Program, Return, Successor
from offramp.compiler.manifest import (
    CandidateEntry,
    CertificateEntry,
    CostEntry,
    CurvePoint,
    ExitEntry,
    Manifest,
    MemoryEntry,
    MemoryMap,
    TensorSpec,
)
from offramp.report.charts import Axis, curve, memory_chart
from offramp.report.network import MAIN_X, draw
from offramp.report.page import render
from offramp.report.text import bytes_text, count_text, saving, summary

STEM = """
<ir_version: 10, opset_import: ["": 20]>
stem (float[1,3,8,8] x) => (float[1,5] early, float[1,1] score, float[1,4,8,8] features)
<float[4,3,3,3] w, float[4,5] h>
{
    c = Conv<pads = [1, 1, 1, 1]>(x, w)
    r = Relu(c)
    d = Conv<pads = [1, 1, 1, 1]>(r, w2)
    features = Add(r, d)
    p = GlobalAveragePool(features)
    f = Flatten(p)
    early = MatMul(f, h)
    s = Softmax(early)
    axes = Constant<value_ints = [1]>()
    score = ReduceMax(s, axes)
}
"""
REST = """
<ir_version: 10, opset_import: ["": 20]>
rest (float[1,4,8,8] features) => (float[1,5] logits)
<float[4,5] h>
{
    p = GlobalAveragePool(features)
    f = Flatten(p)
    logits = MatMul(f, h)
}
"""
INITIALIZERS = {"w": (4, 3, 3, 3), "w2": (4, 4, 3, 3), "h": (4, 5)}


def block_graph(text: str) -> ir.Graph:
    """A typed graph from ONNX text, whose weights are named in `INITIALIZERS`."""
    text = re.sub(r"<float\[4.*", "", text)
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name in sorted(used & set(INITIALIZERS)):
        values = np.ones(INITIALIZERS[name], np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    graph: ir.Graph = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
    return graph


@pytest.fixture
def program() -> Program:
    exit_ = Exit((0,), 1, 0.75, "max_softmax", Successor("rest", (2,)))
    blocks = {
        "stem": Block("stem", block_graph(STEM), exit_),
        "rest": Block("rest", block_graph(REST), Return((0,))),
    }
    return Program("toy", blocks, ("logits",), {"": 20})


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        name="toy",
        target="cortex-m7",
        batched=True,
        inputs=(TensorSpec("x", (1, 3, 8, 8), "float32", "network input"),),
        outputs=(TensorSpec("logits", (1, 5), "float32", "network output"),),
        static_cost=CostEntry(20000, 80000.0, "instructions"),
        expected_cost=CostEntry(12000, 48000.0, "instructions"),
        exits=(
            ExitEntry("stem", "max_softmax", 0.75, 0.625, 9000, 36000.0, 0.97),
            ExitEntry("rest", None, None, 0.375, 20100, 80100.0),
        ),
        certificate=CertificateEntry("drop", 1.0, 0.9, 0.83, 1500),
        reason=None,
        memory=MemoryMap(
            2048,
            2048,
            "optimal",
            ("stem/conv", "stem/add", "rest/matmul"),
            (MemoryEntry("x", 0, 768, 0, 0), MemoryEntry("r", 1024, 1024, 0, 1)),
        ),
        candidates=(CandidateEntry("stem", "pool <linear>", 20, True, "cheapest within budget"),),
        curve=(CurvePoint("a", 12000, 0.4, 0.83, True), CurvePoint("b", 8000, 2.5)),
        provenance={"offramp": "0.1.0", "seed": "0"},
    )


def test_the_drawing_has_backbone_head_and_exit(program: Program, manifest: Manifest) -> None:
    drawing = draw(program, manifest)
    main = [row.label for row in drawing.rows if row.x == MAIN_X]
    beside = [row.label for row in drawing.rows if row.x != MAIN_X]
    pool = "GlobalAveragePool · Flatten"
    assert main == ["input", "Conv · Relu", "Conv", "Add", "rest", pool, "MatMul", "answer"]
    assert beside == [pool, "MatMul · Softmax · ReduceMax", "exit 0"]
    assert [link.kind for link in drawing.links].count("skip") == 1
    assert max(row.bar for row in drawing.rows) == 1.0


def test_flow_narrows_where_samples_leave(program: Program, manifest: Manifest) -> None:
    links = [link for link in draw(program, manifest).links if link.kind == "flow"]
    assert links[0].width > links[-1].width


def test_rows_of_one_column_never_overlap(program: Program, manifest: Manifest) -> None:
    rows = draw(program, manifest).rows
    for x in {row.x for row in rows}:
        ys = sorted(row.y for row in rows if row.x == x)
        assert all(below - above >= 30 for above, below in pairwise(ys))


def test_the_curve_places_the_chosen_point(manifest: Manifest) -> None:
    drawn = curve(manifest)
    assert drawn is not None
    chosen = next(mark for mark in drawn.marks if mark.chosen)
    assert chosen.x == pytest.approx(drawn.x.at(60.0))
    assert chosen.bound_y is not None
    assert drawn.budget_y is not None
    assert drawn.budget_y < chosen.bound_y < chosen.y  # upwards on the page is worse
    assert curve(replace(manifest, curve=())) is None


def test_the_memory_map_adds_up(manifest: Manifest) -> None:
    chart = memory_chart(manifest.memory)
    assert chart is not None
    assert chart.live == (1792, 1024, 0)
    assert chart.bars[1].y == pytest.approx(chart.y.at(2048))


def test_ticks_are_round_and_inside() -> None:
    assert Axis(0.0, 97.0, 0.0, 1.0).ticks() == [0, 20, 40, 60, 80]
    assert Axis(-0.3, 1.2, 0.0, 1.0).ticks() == pytest.approx([0.0, 0.5, 1.0])


def test_numbers_read_well(manifest: Manifest) -> None:
    assert [count_text(v) for v in (12, 2_345, 12_500_000)] == ["12", "2.345 k", "12.5 M"]
    assert [bytes_text(v) for v in (12, 2048, 3 << 20)] == ["12 B", "2.0 KiB", "3.0 MiB"]
    assert saving(manifest) == pytest.approx(0.4)
    assert "at most 0.83 points (budget 1)" in summary(manifest)
    refused = replace(manifest, certificate=None, reason="the network has no classes")
    assert summary(refused) == "Nothing was certified: the network has no classes."


def test_the_page_is_self_contained_and_escaped(program: Program, manifest: Manifest) -> None:
    page = render(manifest, program)
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "url(" not in page
    assert "@import" not in page
    assert "pool &lt;linear&gt;" in page


BROWSER = next(filter(shutil.which, ("chromium", "google-chrome", "chromium-browser")), "chromium")
PROBE = """<script>
addEventListener("error", (event) => document.body.dataset.error = event.message);
</script>"""
AFTER = """<script>
const chart = document.getElementById("memory-chart"), box = chart.getBoundingClientRect();
const middle = box.left + 0.5 * box.width;
chart.dispatchEvent(new MouseEvent("mousemove", {clientX: middle, bubbles: true}));
const before = getComputedStyle(document.body).backgroundColor;
document.getElementById("theme").click();
document.body.dataset.themes = before + " then " + getComputedStyle(document.body).backgroundColor;
document.body.dataset.overflow = document.documentElement.scrollWidth > innerWidth;
</script>"""


@pytest.mark.browser
def test_the_page_lives_in_a_browser(tmp_path: Path, program: Program, manifest: Manifest) -> None:
    page = render(manifest, program).replace("<main>", PROBE + "<main>", 1)
    (tmp_path / "report.html").write_text(page.replace("</body>", AFTER + "</body>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    address = (tmp_path / "report.html").as_uri()
    result = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", address],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    dom = result.stdout
    assert 'data-ready="yes"' in dom
    assert "data-error" not in dom
    assert "step 2, stem/add: 1,024 bytes alive" in dom
    assert 'data-themes="rgb(255, 255, 255) then rgb(18, 23, 30)"' in dom
    assert 'data-overflow="false"' in dom
