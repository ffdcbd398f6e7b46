"""Fixtures shared by all tests: shared models and data, and what the machine can run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OFFRAMP_SHARED", ROOT.parent / "shared"))

REQUIREMENTS = {
    "shared": (
        (SHARED / "models").is_dir(),
        f"no shared models in {SHARED}: set OFFRAMP_SHARED to their folder",
    ),
    "arm": (
        all(shutil.which(tool) for tool in ("arm-none-eabi-gcc", "qemu-system-arm")),
        "install gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm",
    ),
    "browser": (shutil.which("chromium") is not None, "install chromium"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip marked tests whose requirement is missing, with what to install."""
    for item in items:
        for marker, (present, reason) in REQUIREMENTS.items():
            if not present and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared models and data."""
    return SHARED
