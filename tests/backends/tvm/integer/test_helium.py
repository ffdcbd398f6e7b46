"""Microkernels for Helium: their C against numpy here, their assembly in the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offramp import backends
from offramp.backends import tools
from offramp.backends.tvm.integer import helium_depthwise
from offramp.backends.tvm.integer.conv import IntegerConv
from offramp.backends.tvm.integer.helium_conv import HeliumConv, pack_scales, pack_weights
from offramp.backends.tvm.integer.helium_depthwise import HeliumDepthwise
from offramp.backends.tvm.integer.paired_conv import PairedConv
from offramp.backends.tvm.integer.scaling import Factors, Scaling
from offramp.backends.tvm.lower import Lowered, lower
from offramp.backends.tvm.microkernels.helium import words
from offramp.backends.tvm.window import Axis, Window
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.passes.memory import plan_memory

from .conftest import samples
from .test_microkernels import BYTES, compiled, pointer, rounded

QUICKLY = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def window(size: tuple[int, int], taps: tuple[int, int], stride: int, dilation: int) -> Window:
    """Over one image, with about as many outputs as inputs."""
    axes = [
        Axis(length, -(-length // stride), count, stride, count // 2, dilation)
        for length, count in zip(size, taps, strict=True)
    ]
    return Window(1, *axes)


def image_sums(
    spec: HeliumConv | HeliumDepthwise, image: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Sums of products `[rows, columns, filters]`, zero points outside the image.

    weights: `[filters, channels, rows, columns]`; of one channel: filters keep channels apart.
    """
    rows, columns = spec.window.rows, spec.window.columns
    border = [(rows.pad, 20), (columns.pad, 20), (0, 0)]
    wide = np.pad(image.astype(np.int64), border, constant_values=spec.zero)
    sums = np.zeros((rows.out, columns.out, len(weights)), np.int64)
    for r in range(rows.taps):
        for t in range(columns.taps):
            first, left = r * rows.dilation, t * columns.dilation
            part = wide[first :: rows.stride, left :: columns.stride][: rows.out, : columns.out]
            taps = weights[:, :, r, t].T.astype(np.int64)
            sums += part * taps if isinstance(spec, HeliumDepthwise) else part @ taps
    return sums


@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 11)),
    taps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.sampled_from([1, 3, 16, 40]),
    filters=st.integers(1, 9),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    exact=st.booleans(),
    zero=BYTES,
    seed=st.integers(0, 2**16),
)
@QUICKLY
def test_a_tile_is_a_convolution(
    tmp_path: Path,
    size: tuple[int, int],
    taps: tuple[int, int],
    channels: int,
    filters: int,
    stride: int,
    dilation: int,
    exact: bool,
    zero: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    scaling = Scaling(0, -100, 127, 5, exact)
    spec = HeliumConv(window(size, taps, stride, dilation), channels, filters, zero, scaling)
    rows, columns = spec.window.rows, spec.window.columns
    image = random.integers(-128, 128, (*size, channels), dtype=np.int8)
    weights = random.integers(-127, 128, (filters, channels, *taps), dtype=np.int8)
    start = random.integers(-9999, 9999, filters).astype(np.int32)
    factors = random_factors(random, filters, exact)
    scales = pack_scales(Factors(factors.astype(np.int32), 0), start)
    library = compiled(tmp_path, *spec.microkernels())
    packed, found = pack_weights(spec, weights), np.zeros((rows.out, columns.out, filters), np.int8)
    workspace = np.zeros(spec.workspace, np.int8)
    for row in range(rows.out):
        for first, count, pixels in spec.tiles():
            for column in range(first, first + count * pixels, pixels):
                inputs = image[0, column:].copy() if spec.is_direct else workspace
                place = (row * stride - rows.pad, column * stride - columns.pad)
                if spec.is_strip:
                    library.helium_strip(
                        pointer(inputs), pointer(image), *place, *size, channels, taps[0], dilation,
                        zero, (pixels - 1) * stride + taps[1],
                    )  # fmt: skip
                elif not spec.is_direct:
                    library.helium_gather(
                        pointer(inputs), pointer(image), *place, *size, channels, *taps, dilation,
                        dilation, stride, zero, pixels, 0,
                    )  # fmt: skip
                for begin, blocks, lanes in spec.blocks():
                    tile = spec.tile(pixels, lanes)
                    getattr(library, tile.name)(
                        5, filters, 2 * spec.pitch - spec.steps, spec.pitch, pointer(inputs),
                        pointer(packed[begin * spec.steps:]),
                        pointer(scales[begin * words(scaling):]),
                        pointer(found[row, column:, begin:]),
                        spec.steps // (16 * tile.unroll), pixels // 2, blocks,
                    )  # fmt: skip
    sums = image_sums(spec, image, weights) + start
    np.testing.assert_array_equal(found, scaled(sums, factors))


def scaled(sums: np.ndarray, factors: np.ndarray) -> Any:
    """Outputs with zero point 5, at least -100; rounded twice if factors have shifts."""
    if factors.shape[1] == 1:
        return np.maximum(rounded(sums, factors[:, 0].astype(object), 5), -100)
    high = (sums * factors[:, 0] + (1 << 30)) >> 31
    return np.clip(halves_away(high, factors[:, 1]) + 5, -100, 127)


def random_factors(random: np.random.Generator, count: int, exact: bool) -> np.ndarray:
    """Multipliers, and shifts to the right if exact."""
    multipliers = random.integers(1, 2**26, (count, 1))
    if not exact:
        return multipliers
    return np.concatenate([multipliers << 4, random.integers(0, 9, (count, 1))], axis=1)


def halves_away(numbers: np.ndarray, shift: np.ndarray) -> Any:
    """`numbers / 2^shift`, rounded to nearest, halves away from zero."""
    return np.sign(numbers) * ((np.abs(numbers) + ((1 << shift) >> 1)) >> shift)


@pytest.mark.parametrize("kind", [IntegerConv, HeliumConv, PairedConv])
@pytest.mark.parametrize("taps", [(1, 1), (3, 1), (1, 3)])
def test_only_pointwise_outputs_may_overwrite_inputs(
    kind: type[IntegerConv | HeliumConv | PairedConv], taps: tuple[int, int]
) -> None:
    """A window that slides along one axis reads rows again that are written by then."""
    scaling = Scaling(0, -128, 127, 0, exact=False)
    assert kind(window((6, 7), taps, 1, 1), 8, 8, 0, scaling).may_overwrite == (taps == (1, 1))


@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    taps=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    channels=st.sampled_from([4, 16, 36]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    exact=st.booleans(),
    zero=BYTES,
    seed=st.integers(0, 2**16),
)
@QUICKLY
def test_depthwise_outputs_are_a_convolution(
    tmp_path: Path,
    size: tuple[int, int],
    taps: tuple[int, int],
    channels: int,
    stride: int,
    dilation: int,
    exact: bool,
    zero: int,
    seed: int,
) -> None:
    """Where outputs may overwrite the input, they do."""
    random = np.random.default_rng(seed)
    scaling = Scaling(0, -100, 127, 5, exact)
    spec = HeliumDepthwise(window(size, taps, stride, dilation), channels, zero, scaling)
    rows, columns = spec.window.rows, spec.window.columns
    image = random.integers(-128, 128, (*size, channels), dtype=np.int8)
    weights = random.integers(-127, 128, (channels, 1, *taps), dtype=np.int8)
    start = random.integers(-9999, 9999, channels).astype(np.int32)
    factors = random_factors(random, channels, exact)
    expected = scaled(image_sums(spec, image, weights) + start, factors)
    (kernel,) = spec.microkernels()
    run = getattr(compiled(tmp_path, kernel), kernel.name)
    packed = helium_depthwise.pack_weights(spec, weights)
    scales = helium_depthwise.pack_scales(spec, Factors(factors.astype(np.int32), 0), start)
    scratch = np.zeros(spec.workspace, np.int8)
    place = image if spec.may_overwrite else np.zeros((rows.out, columns.out, channels), np.int8)
    found = place.reshape(-1)[: expected.size].reshape(expected.shape)
    run(
        pointer(found), pointer(image), pointer(scratch), pointer(packed), pointer(scales), *size,
        channels, rows.out, columns.out, stride, stride, rows.pad, columns.pad, dilation, dilation,
        spec.together, zero, 5, spec.kept_rows,
    )  # fmt: skip
    np.testing.assert_array_equal(found, expected)


@pytest.mark.arm
@pytest.mark.parametrize("level", ["-O0", "-Os", "-O3"])
def test_any_optimisation_level_finds_registers(
    quantised: onnx.ModelProto, level: str, tmp_path: Path
) -> None:
    target = targets.get("cortex-m55")
    for exact in (True, False):
        source = lower(from_onnx(quantised), target, exact=exact).kernels.to_c()
        (tmp_path / "kernels.c").write_text(source)
        machine = ["-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"]
        command = ["arm-none-eabi-gcc", "-std=c99", level, *machine, "-c", "kernels.c"]
        tools.run(command, folder=tmp_path)


@pytest.mark.arm
@pytest.mark.parametrize("exact", [True, False])
def test_vectors_change_no_answer(quantised: onnx.ModelProto, exact: bool, tmp_path: Path) -> None:
    """Of a network in odd shapes, on an M55 with Helium and on an M7."""
    answers = []
    for name in ("cortex-m7", "cortex-m55"):
        lowered = lower(from_onnx(quantised), targets.get(name), exact=exact)
        folder = tmp_path / name
        folder.mkdir()
        backends.get(name).emit(Lowered(plan_memory(lowered.plan), lowered.kernels), folder)
        answers.append(backends.get(name).load(folder).run({"x": samples(6, 5)}).outputs["y"])
    np.testing.assert_array_equal(answers[1], answers[0])
