"""Processors that cannot run the code are refused before it ends in an illegal instruction."""

from __future__ import annotations

import pytest

from offramp.backends.x86_64.run import check_processor, processor_flags
from offramp.compiler.errors import ToolError


def test_a_processor_that_lacks_extensions_is_named() -> None:
    with pytest.raises(ToolError, match=r"this one lacks avx2, bmi2"):
        check_processor({"sse2", "fma"})


def test_flags_of_this_machine_are_read() -> None:
    assert "sse2" in processor_flags()
