"""The C that stands beside the assembly, against numpy on random tiles."""

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
from offramp.backends.tvm.integer import dual_plane
from offramp.backends.tvm.integer.channelwise import pack_depthwise
from offramp.backends.tvm.integer.conv import IntegerConv, pack_weights
from offramp.backends.tvm.integer.dual_plane import DualPlane
from offramp.backends.tvm.integer.scaling import Scaling, exact, fixed_point
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.integer_depthwise import IntegerDepthwise
from offramp.backends.tvm.microkernels.integer_elementwise import Elementwise, IntegerElementwise
from offramp.backends.tvm.microkernels.integer_gather import IntegerGather
from offramp.backends.tvm.microkernels.integer_matrix import IntegerTile
from offramp.backends.tvm.window import Axis, Window

BYTES = st.integers(-128, 127)


def compiled(folder: Path, *kernels: Any) -> ctypes.CDLL:
    """The kernels as a shared library for this machine, in a file of its own."""
    place = Path(tempfile.mkdtemp(dir=folder))
    text = "#include <stdint.h>\n#include <string.h>\n"
    text += "".join(kernel.source() for kernel in kernels)
    (place / "kernels.c").write_text(text.replace("\nstatic void", "\nvoid"))
    flags = ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover", "-fPIC", "-shared"]
    warnings = ["-Wall", "-Wextra", "-Werror"]
    tools.run(["gcc", *flags, *warnings, "-o", "kernels.so", "kernels.c"], folder=place)
    return ctypes.CDLL(str(place / "kernels.so"))


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def rounded(sums: np.ndarray, multiplier: Any, zero: int) -> Any:
    """`zero + round(sums * multiplier / 2^32)`, halves upwards."""
    exact = sums.astype(object) * multiplier + (zero << 32) + (1 << 31)
    return np.clip((exact >> 32).astype(np.int64), -128, 127)


@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    taps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.sampled_from([1, 3, 4, 8, 16]),
    filters=st.integers(1, 6),
    stride=st.integers(1, 2),
    bits=st.sampled_from([4, 8, 16]),
    zero=BYTES,
    seed=st.integers(0, 2**16),
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_tile_is_a_convolution(
    tmp_path: Path,
    size: tuple[int, int],
    taps: tuple[int, int],
    channels: int,
    filters: int,
    stride: int,
    bits: int,
    zero: int,
    seed: int,
) -> None:
    bits = max(bits, 8) if channels % 8 else bits
    random = np.random.default_rng(seed)
    height, width = size
    pad = (taps[0] // 2, taps[1] // 2)
    out = (-(-height // stride), -(-width // stride))
    window = Window(
        1,
        Axis(height, out[0], taps[0], stride, pad[0]),
        Axis(width, out[1], taps[1], stride, pad[1]),
    )
    scaling = Scaling(0, -128, 127, 5, exact=False)
    spec = IntegerConv(window, channels, filters, zero, scaling, bits=bits)
    image = random.integers(-128, 128, (height, width, channels), dtype=np.int8)
    low, high = (-8, 8) if bits == 4 else (-127, 128)
    weights = random.integers(low, high, (filters, channels, *taps), dtype=np.int8)
    table = np.stack([random.integers(-9999, 9999, filters), random.integers(1, 2**26, filters)], 1)
    table = table.astype(np.int32)
    given = (table * [16 if bits == 4 else 1, 1]).astype(np.int32)
    library = compiled(tmp_path, *spec.microkernels())
    packed, found = pack_weights(spec, weights), np.zeros((*out, filters), np.int8)
    for row in range(out[0]):
        for first, count, pixels in spec.tiles():
            for column in range(first, first + count * pixels, pixels):
                gathered = np.zeros(spec.steps * pixels, np.int16)
                getattr(library, spec.gather(pixels).name)(
                    pointer(gathered), pointer(image), row * stride - pad[0],
                    column * stride - pad[1], height, width, channels, *taps, 1, 1, stride, zero, 0,
                )  # fmt: skip
                for start, blocks, lanes in spec.blocks():
                    tile = spec.tile(pixels, lanes)
                    getattr(library, tile.name)(
                        pointer(found[row, column:, start:]), pointer(gathered),
                        pointer(packed[spec.bytes_of(start):]), pointer(given[start:]),
                        spec.steps // (spec.together * tile.unroll), blocks, spec.steps, filters, 5,
                    )  # fmt: skip
    wide = np.pad(image.astype(np.int64), [(pad[0], 9), (pad[1], 9), (0, 0)], constant_values=zero)
    for row in range(out[0]):
        for column in range(out[1]):
            at = (row * stride, column * stride)
            part = wide[at[0] : at[0] + taps[0], at[1] : at[1] + taps[1]].transpose(2, 0, 1)
            sums = (weights * part).sum(axis=(1, 2, 3)) + table[:, 0]
            expected = rounded(sums, table[:, 1].astype(object), 5)
            np.testing.assert_array_equal(found[row, column], expected)


@pytest.mark.parametrize("taps", [1, 2, 9, 12])
def test_depthwise_sums_all_taps(tmp_path: Path, taps: int) -> None:
    random = np.random.default_rng(taps)
    channels, kernel = 8, IntegerDepthwise(taps, Scaling(1, -128, 100, -7, exact=False))
    image = random.integers(-128, 128, (1, taps, channels), dtype=np.int8)
    weights = random.integers(-127, 128, (channels, 1, 1, taps), dtype=np.int8)
    table = np.stack([random.integers(-99, 99, channels), random.integers(1, 2**26, channels)], 1)
    table, found = table.astype(np.int32), np.zeros(channels, np.int8)
    getattr(compiled(tmp_path, kernel), kernel.name)(
        pointer(found), pointer(image), pointer(np.zeros(channels, np.int8)),
        pointer(pack_depthwise(weights)), pointer(table),
        0, 0, 1, taps, channels, taps, 1, 1, -7, 0, 0,
    )  # fmt: skip
    sums = (image[0].astype(np.int64) * weights[:, 0, 0].T).sum(axis=0) + table[:, 0]
    expected = np.minimum(rounded(2 * sums, table[:, 1].astype(object), -7), 100)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("channels", "size"), [(4, (5, 3)), (3, (1, 6)), (2, (40, 40))])
@pytest.mark.parametrize(("taps", "pad"), [(3, 0), (3, 1), (5, 1), (5, 2)])
@pytest.mark.parametrize("exact", [False, True])
def test_a_plane_is_a_depthwise_convolution(
    tmp_path: Path, channels: int, size: tuple[int, int], taps: int, pad: int, exact: bool
) -> None:
    """In place where sizes agree; upright and sideways, one channel copied at a time or four."""
    height, width = (extent + taps - 1 - 2 * pad for extent in size)
    random = np.random.default_rng(channels)
    scaling = Scaling(1, -100, 127, -7, exact=exact)
    window = Window(1, Axis(height, size[0], taps, 1, pad), Axis(width, size[1], taps, 1, pad))
    spec = DualPlane(window, channels, 5, scaling)
    assert dual_plane.fits(window, scaling)
    image = random.integers(-128, 128, (height, width, channels), dtype=np.int8)
    weights = random.integers(-127, 128, (channels, 1, taps, taps), dtype=np.int8)
    table = np.stack([random.integers(-99, 99, channels), random.integers(1, 2**26, channels)], 1)
    shifts = random.integers(0, 9, channels)
    if exact:
        table = np.concatenate([table, shifts[:, None], -np.minimum(shifts, 1)[:, None]], axis=1)
        table[:, 1] *= 32
    table = table.astype(np.int32)
    wide = np.pad(image, [(pad, pad), (pad, pad), (0, 0)], constant_values=5).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (taps, taps), axis=(0, 1))
    sums = 2 * ((windows * weights[:, 0]).sum(axis=(-2, -1)) + table[:, 0])
    if exact:
        high = (sums * table[:, 1].astype(np.int64) + (1 << 30)) >> 31
        half = (1 << shifts) >> 1
        expected = np.clip(((high + half - ((high < 0) & (shifts > 0))) >> shifts) - 7, -128, 127)
    else:
        expected = rounded(sums, table[:, 1].astype(object), -7)
    found = image if spec.may_overwrite else np.zeros((*size, channels), np.int8)
    run_plane(tmp_path, spec, image, dual_plane.pack(spec, weights), table, found)
    np.testing.assert_array_equal(found, np.maximum(expected, -100))


def run_plane(
    folder: Path, spec: DualPlane, image: Any, packed: Any, table: Any, found: np.ndarray
) -> None:
    """Call the C function as the kernel does."""
    rows, columns, channels = spec.window.rows, spec.window.columns, spec.channels
    across, along = (columns, rows) if spec.is_sideways else (rows, columns)
    steps = [(channels, width * channels) for width in (columns.size, columns.out)]
    (in_step, in_line), (out_step, out_line) = (s[::-1] if spec.is_sideways else s for s in steps)
    (kernel,) = spec.microkernels()
    getattr(compiled(folder, kernel), kernel.name)(
        pointer(found), pointer(image), pointer(np.zeros(spec.workspace, np.int8)),
        pointer(packed), pointer(table), channels, across.size, along.size, across.out, along.out,
        across.pad, along.pad, in_step, in_line, out_step, out_line, spec.zero, spec.scaling.zero,
    )  # fmt: skip


def test_sums_and_means(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    add, mean = (IntegerElementwise(k, -128, 127) for k in (Elementwise.ADD, Elementwise.MEAN))
    library = compiled(tmp_path, add, mean)
    left, right = random.integers(-128, 128, (2, 11), dtype=np.int8)
    found = np.zeros(11, np.int8)
    factors = ctypes.c_int32((9000 & 0xFFFF) | (12000 << 16))
    getattr(library, add.name)(pointer(found), pointer(left), pointer(right), 11, factors, 5000, 14)
    wide = left.astype(np.int64) * 9000 + right.astype(np.int64) * 12000 + 5000
    np.testing.assert_array_equal(found, np.clip(wide >> 14, -128, 127))
    image = random.integers(-128, 128, (4, 5, 3), dtype=np.int8)
    by_channel = np.zeros(3, np.int8)
    getattr(library, mean.name)(
        pointer(by_channel), pointer(image), 4, 5, 15, 3, -40, 0, 2**32 // 20, 3
    )
    expected = rounded(image.sum(axis=(0, 1), dtype=np.int64) - 40, 2**32 // 20, 3)
    np.testing.assert_array_equal(by_channel, expected)


@given(factor=st.floats(1e-6, 100.0), total=st.integers(-(2**22), 2**22))
def test_fixed_point_is_within_half_a_unit(factor: float, total: int) -> None:
    factors = fixed_point(np.array([factor]), 2**22)
    assert factors is not None
    scaled = ((total << factors.shift) * int(factors.columns[0, 0]) + (1 << 31)) >> 32
    assert abs(scaled - total * factor) <= 0.5 + abs(total) * max(factor * 2**-20, 2**-33)


def test_sums_that_leave_32_bits_are_refused() -> None:
    assert fixed_point(np.array([0.25]), 2**31) is None
    assert fixed_point(np.array([3.0]), 2**29) is None


@given(factor=st.floats(1e-30, 0.999), total=st.integers(-(2**30), 2**30))
def test_exact_factors_round_twice_and_never_shift_out_of_range(factor: float, total: int) -> None:
    factors = exact(np.array([factor]), 2**30)
    assert factors is not None
    multiplier, right, mask = (int(number) for number in factors.columns[0])
    assert 0 <= right <= 31
    high = (total * multiplier + (1 << 30)) >> 31
    scaled = (high + ((1 << right) >> 1) + (mask if high < 0 else 0)) >> right
    assert abs(scaled - total * factor) <= 1.0


def test_variants_have_names_of_their_own() -> None:
    kernels: list[Microkernel] = [
        IntegerTile(pixels, filters, unroll, Scaling(shift, low, 127, 0, exact))
        for pixels, filters in [(1, 1), (4, 1), (1, 4)]
        for shift in (0, 2)
        for unroll in (1, 4)
        for low in (-128, 3)
        for exact in (True, False)
    ]
    kernels += [IntegerGather(pixels, whole) for pixels in (1, 4) for whole in (True, False)]
    names = [kernel.name for kernel in kernels]
    assert len(set(names)) == len(names)
