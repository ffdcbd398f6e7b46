"""The compiled functions load where nothing can be cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import pytest

from offramp.passes.memory.search import kernel


def test_without_a_folder_to_cache_in_it_compiles_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original: Callable[..., Any] = numba.njit

    def refuses_to_cache(*functions: object, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available for file")
        return original(*functions, **options)

    monkeypatch.setattr(numba, "njit", refuses_to_cache)

    def double(number: int) -> int:
        return 2 * number

    assert kernel.compiled(double)(21) == 42
