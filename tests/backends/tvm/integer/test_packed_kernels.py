"""Kernels for cores without dual multiplies, compiled for this machine, against numpy."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offramp.backends import tools
from offramp.backends.tvm.bare import Bare
from offramp.backends.tvm.integer import packed_dense, paired_conv, strips
from offramp.backends.tvm.integer.addition import Addition
from offramp.backends.tvm.integer.packed_dense import Dense
from offramp.backends.tvm.integer.paired_conv import PairedConv
from offramp.backends.tvm.integer.runs import LARGEST_SUM, cut
from offramp.backends.tvm.integer.scaling import Scaling, exact, fixed_point
from offramp.backends.tvm.integer.selection import build
from offramp.backends.tvm.integer.strips import Strips
from offramp.backends.tvm.library import KernelLibrary
from offramp.backends.tvm.microkernels.chain import LONGEST_RUN
from offramp.backends.tvm.window import Axis, Window
from offramp.compiler import targets

BYTES = st.integers(-128, 127)
SCALINGS = st.sampled_from([(False, False), (False, True), (True, False), (True, True)])
relaxed = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def run(folder: Path, spec: Any, *arrays: np.ndarray) -> None:
    """Compile the kernel of `spec` with checks for undefined behaviour, and call it."""
    types = tuple(array.dtype.name for array in arrays)
    bare = Bare(build(spec), types, spec.workspace, microkernels=spec.microkernels())
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / "k.c").write_text(KernelLibrary({"kernel": bare}, targets.get("riscv32")).to_c())
    flags = ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover", "-fPIC", "-shared"]
    tools.run(["gcc", *flags, "-o", "k.so", "k.c"], folder=place)
    scratch = [np.full(spec.workspace, 0xA5, np.uint8)] if spec.workspace else []
    pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, *scratch)]
    ctypes.CDLL(str(place / "k.so")).kernel(*pointers)


def scaled_by(sums: Any, scaling: Scaling, factors: Any) -> Any:
    """Outputs before they are clamped, in Python's integers; the last axis is channels."""
    columns = factors.columns.astype(object).T
    shifted = sums.astype(object) << scaling.shift
    if not scaling.exact:
        return (shifted * columns[0] + (scaling.zero << 32) + (1 << 31)) >> 32
    high = (shifted * columns[0] + (1 << 30)) >> 31
    half = (1 << columns[1]) >> 1
    return ((high + half - (high < 0) * (columns[1] > 0)) >> columns[1]) + scaling.zero


def scales(random: Any, channels: int, kind: tuple[bool, bool]) -> tuple[Scaling, Any]:
    is_exact, has_room = kind
    factors = (exact if is_exact else fixed_point)(random.uniform(1e-4, 2e-3, channels), 2**20)
    assert factors is not None
    return Scaling(
        factors.shift, -100, 120, int(random.integers(-9, 9)), is_exact, has_room
    ), factors


def windows(image: Any, window: Window, zero: int) -> Any:
    """Patches `[rows, columns, row taps, column taps, channels]` of an image."""
    rows, columns = window.rows, window.columns
    margins = [(axis.pad, axis.size + axis.taps * axis.dilation) for axis in (rows, columns)]
    wide = np.pad(image.astype(np.int64), [*margins, (0, 0)], constant_values=zero)
    at = [
        np.arange(axis.out)[:, None] * axis.stride + np.arange(axis.taps) * axis.dilation
        for axis in (rows, columns)
    ]
    return wide[at[0][:, None, :, None], at[1][None, :, None, :]]


WINDOWS = st.builds(
    lambda sizes, taps, stride, dilation: Window(
        1,
        *(
            Axis(size, -(-size // stride), tap, stride, (tap - 1) * dilation // 2, dilation)
            for size, tap in zip(sizes, taps, strict=True)
        ),
    ),
    st.tuples(st.integers(1, 5), st.integers(1, 19)),
    st.tuples(st.integers(1, 3), st.integers(1, 4)),
    st.integers(1, 2),
    st.integers(1, 2),
)


@given(
    WINDOWS,
    st.integers(1, 9),
    st.integers(1, 5),
    SCALINGS,
    BYTES,
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**16),
)
@relaxed
def test_a_paired_convolution_is_a_convolution(
    tmp_path: Path, window: Window, channels: int, filters: int, kind: tuple[bool, bool], zero: int,
    adds: bool, narrow: bool, seed: int,
) -> None:  # fmt: skip
    narrow = narrow and channels * window.taps % 2 == 0
    random = np.random.default_rng(seed)
    scaling, factors = scales(random, filters, kind)
    added = Addition(9000, 5000, 1 << 13, 14) if adds else None
    spec = PairedConv(window, channels, filters, zero, scaling, added, narrow)
    shape = (window.rows.size, window.columns.size, channels)
    image = random.integers(-128, 128, shape, dtype=np.int8)
    taps = (window.rows.taps, window.columns.taps)
    low, high = (-8, 8) if narrow else (-127, 128)
    weights = random.integers(low, high, (filters, channels, *taps), dtype=np.int8)
    bias = random.integers(-9999, 9999, filters).astype(np.int32)
    found = np.zeros((window.rows.out, window.columns.out, filters), np.int8)
    residual = random.integers(-128, 128, found.shape, dtype=np.int8)
    packed = paired_conv.pack(spec, weights, factors.table(bias))
    run(tmp_path, spec, image, *packed, *([residual] if adds else []), found)
    sums = np.einsum("yxijc,fcij->yxf", windows(image, window, zero), weights.astype(np.int64))
    expected = scaled_by(sums + bias, scaling, factors)
    if adds:
        own = np.clip(expected, -128, 127)
        expected = (own * 9000 + residual.astype(object) * 5000 + (1 << 13)) >> 14
    np.testing.assert_array_equal(found, np.clip(expected, -100, 120).astype(np.int8))


@given(WINDOWS, st.integers(1, 5), SCALINGS, BYTES, st.integers(0, 2**16))
@relaxed
def test_a_depthwise_convolution_on_planes(
    tmp_path: Path, window: Window, channels: int, kind: tuple[bool, bool], zero: int, seed: int
) -> None:
    """Into the input itself where the specification says that this is possible."""
    random = np.random.default_rng(seed)
    scaling, factors = scales(random, channels, kind)
    spec = Strips(window, channels, zero, scaling)
    shape = (window.rows.size, window.columns.size, channels)
    image = random.integers(-128, 128, shape, dtype=np.int8)
    taps = (window.rows.taps, window.columns.taps)
    weights = random.integers(-127, 128, (channels, 1, *taps), dtype=np.int8)
    bias = random.integers(-9999, 9999, channels).astype(np.int32)
    patches = windows(image, window, zero)
    found = np.zeros((window.rows.out, window.columns.out, channels), np.int8)
    found = image if spec.may_overwrite else found
    run(tmp_path, spec, image, strips.pack(weights), factors.table(bias), found)
    sums = np.einsum("yxijc,cij->yxc", patches, weights[:, 0].astype(np.int64)) + bias
    expected = np.clip(scaled_by(sums, scaling, factors), -100, 120)
    np.testing.assert_array_equal(found, expected.astype(np.int8))


@pytest.mark.parametrize("filters", [1, 4, 7, 16])
@pytest.mark.parametrize("kind", [(False, True), (True, False)])
def test_a_dense_layer_with_the_largest_weights(
    tmp_path: Path, filters: int, kind: tuple[bool, bool]
) -> None:
    random = np.random.default_rng(filters)
    scaling, factors = scales(random, filters, kind)
    spec = Dense(37, filters, scaling)
    row = random.choice(np.array([-128, 127, 3], np.int8), 37)
    weights = random.choice(np.array([-127, 127, 1, 0], np.int8), (filters, 37))
    bias = random.integers(-9999, 9999, filters).astype(np.int32)
    found = np.zeros(filters, np.int8)
    run(tmp_path, spec, row, *packed_dense.pack(spec, weights, factors.table(bias)), found)
    sums = weights.astype(np.int64) @ row.astype(np.int64) + bias
    expected = np.clip(scaled_by(sums, scaling, factors), -100, 120)
    np.testing.assert_array_equal(found, expected.astype(np.int8))


@given(st.lists(st.tuples(*[st.integers(-127, 127)] * 3), min_size=1, max_size=60))
def test_runs_are_as_long_as_halves_of_words_allow(taps: list[tuple[int, ...]]) -> None:
    weights = np.array(taps, np.int8).T
    found = cut(weights)
    ends = np.cumsum(found.lengths.astype(int)).tolist()
    assert ends[-1] == len(taps)
    magnitudes = np.abs(weights.astype(int))
    for start, end in zip([0, *ends], ends, strict=False):
        assert magnitudes[:, start:end].sum(axis=1).max() <= LARGEST_SUM
        further = magnitudes[:, start : end + 1].sum(axis=1).max()
        assert end - start == LONGEST_RUN or end == len(taps) or further > LARGEST_SUM
