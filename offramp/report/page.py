"""The page itself: numbers formatted for people, drawings placed, everything inlined."""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2

from offramp.compiler.ir import Program
from offramp.compiler.manifest import Manifest
from offramp.report.charts import curve, memory_chart
from offramp.report.network import draw
from offramp.report.text import (
    access_text,
    bytes_text,
    cost_text,
    count_text,
    patches_text,
    percent_text,
    real_layers_text,
    saving,
    summary,
)

TEMPLATES = "offramp.report"


def render(manifest: Manifest, program: Program) -> str:
    """`report.html` for an artifact: one page without any external resource."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Any] = {
        "count": count_text,
        "bytes": bytes_text,
        "percent": percent_text,
        "cost": cost_text,
    }
    environment.filters.update(filters)
    return environment.get_template("report.html.j2").render(
        manifest=manifest,
        summary=summary(manifest),
        saving=saving(manifest),
        network=draw(program, manifest),
        curve=curve(manifest),
        memory=memory_chart(manifest.memory),
        access=access_text(manifest.memory),
        patches=None if manifest.patches is None else patches_text(manifest.patches),
        real_layers=real_layers_text(manifest.real_layers) if manifest.real_layers else None,
        style=_asset("report.css"),
        script=_asset("report.js"),
    )


def _asset(name: str) -> str:
    return resources.files(TEMPLATES).joinpath("templates", name).read_text(encoding="utf-8")
