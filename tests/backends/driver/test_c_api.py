"""The examples of docs/c-api.md compile without warnings and do what the page says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offramp.backends import tools
from offramp.backends.x86_64.emit import write_sources

PAGE = Path(__file__).parents[3] / "docs" / "c-api.md"
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1"]
CALLER = r"""
#include "kws.h"
#include <math.h>
#include <stdio.h>

int best_word(const float *features, float *confidence);
void save_energy(kws_context *context);
void leave_at_the_first_exit(kws_context *context);
void never_leave_early(kws_context *context);
int run_until(kws_context *context, unsigned *deadline);
void prepare(void);

static unsigned now = 5;
unsigned milliseconds(void) { return now; }

int main(void)
{
    const float high[4] = {1, 2, 3, 4}, low[4] = {0, 0, 0, 0};
    float confidence = 0;
    int best = best_word(high, &confidence);
    printf("best %d confidence %g\n", best, (double)confidence);

    static kws_context context;
    kws_init(&context);
    const float before = context.thresholds[0];
    save_energy(&context);
    printf("lower %d\n", context.thresholds[0] < before);

    leave_at_the_first_exit(&context);
    for (int i = 0; i < 4; ++i)
        ((float *)kws_input(&context, 0))[i] = low[i];
    printf("first %d\n", kws_run(&context) == 0);

    never_leave_early(&context);
    for (int i = 0; i < 4; ++i)
        ((float *)kws_input(&context, 0))[i] = high[i] * 1000;
    const int where = kws_run(&context);
    printf("final %d score %d\n", where == KWS_EXITS, isnan(context.confidence) != 0);

    unsigned soon = 5, late = 6;
    printf("deadline %d %d\n", run_until(&context, &soon), run_until(&context, &late));
    printf("no such %d %d\n", kws_input(&context, 2) == NULL, kws_output(&context, 1) == NULL);
    prepare();
    return 0;
}
"""


@pytest.mark.parametrize("target", ["x86-64"], indirect=True, scope="session")
def test_the_page_is_true(zoo: Any, tmp_path: Path) -> None:
    lowered = replace(zoo.lowered, plan=replace(zoo.lowered.plan, name="kws"))
    write_sources(lowered, tmp_path)
    examples = re.findall(r"```c\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 4
    sources = [f"example{i}.c" for i in range(len(examples))]
    for name, text in zip([*sources, "caller.c"], [*examples, CALLER], strict=True):
        (tmp_path / name).write_text(text)
    inputs = ["driver.c", "kernels.o", "weights.S", "caller.c", *sources]
    tools.run(["gcc", *FLAGS, *inputs, "-lm", "-o", "page"], folder=tmp_path)
    assert tools.run([tmp_path / "page"]).splitlines() == [
        "best 0 confidence 20",
        "lower 1",
        "first 1",
        "final 1 score 1",
        "deadline 0 2",
        "no such 1 1",
    ]


def test_every_macro_and_function_of_the_page_exists(zoo_header: str) -> None:
    named = set(re.findall(r"`(KWS_[A-Z0-9_]+)`", PAGE.read_text())) - {"KWS_ARENA_ATTRIBUTES"}
    assert {"KWS_ARENA_BYTES", "KWS_INPUT0_TYPE"} <= named
    for macro in named:
        assert f"#define {macro} " in zoo_header, macro
    for function in re.findall(r"`[^`]*?(kws_\w+)\(", PAGE.read_text()):
        assert f"{function}(" in zoo_header, function


@pytest.fixture
def zoo_header(zoo: Any, tmp_path: Path) -> str:
    lowered = replace(zoo.lowered, plan=replace(zoo.lowered.plan, name="kws"))
    write_sources(lowered, tmp_path)
    return (tmp_path / "kws.h").read_text()
