"""Fixtures shared by all tests: shared models and data, and what the machine can run."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OFFRAMP_SHARED", ROOT.parent / "shared"))
BROWSERS = ("chromium", "google-chrome", "chromium-browser")

REQUIREMENTS = {
    "shared": (
        (SHARED / "models").is_dir(),
        f"no shared models in {SHARED}: set OFFRAMP_SHARED to their folder",
    ),
    "arm": (
        all(shutil.which(tool) for tool in ("arm-none-eabi-gcc", "qemu-system-arm")),
        "install gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm",
    ),
    "riscv": (
        all(shutil.which(tool) for tool in ("riscv64-unknown-elf-gcc", "qemu-system-riscv32")),
        "install gcc-riscv64-unknown-elf, picolibc-riscv64-unknown-elf and qemu-system-misc",
    ),
    "browser": (any(shutil.which(browser) for browser in BROWSERS), "install chromium"),
}

GROUPS = pytest.StashKey[Counter[str]]()
"""Tests that ran (passed or failed, not skipped), by marker."""


def pytest_configure(config: pytest.Config) -> None:
    """Start counting the tests of every marked group."""
    config.stash[GROUPS] = Counter()
    config.pluginmanager.register(GroupCounter(config.stash[GROUPS]), "offramp-groups")


class GroupCounter:
    """Counts what ran in each marked group; under pytest-xdist the controller sees all reports."""

    def __init__(self, ran: Counter[str]) -> None:
        self.ran = ran

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once, at its call phase."""
        if report.when == "call" and not report.skipped:
            self.ran.update(marker for marker in REQUIREMENTS if marker in report.keywords)


def empty_groups(config: pytest.Config) -> list[str]:
    """The groups named in $OFFRAMP_REQUIRE_GROUPS of which no test ran."""
    required = os.environ.get("OFFRAMP_REQUIRE_GROUPS", "").split()
    return [group for group in required if config.stash[GROUPS][group] == 0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests of each marked group ran."""
    config = terminalreporter.config
    counts = ", ".join(f"{group} {config.stash[GROUPS][group]}" for group in REQUIREMENTS)
    terminalreporter.write_line(f"marked groups that ran: {counts}")
    for group in empty_groups(config):
        terminalreporter.write_line(f"required group {group!r} ran nothing", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which a required group ran nothing, for instance on a machine set up badly."""
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and session.exitstatus == pytest.ExitCode.OK and empty_groups(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


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
