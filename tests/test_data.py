"""Samples as people hand them over, and the messages for what cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from offramp import data
from offramp.compiler.errors import UserError
from offramp.compiler.manifest import TensorSpec

IMAGE = TensorSpec("image", (1, 2, 3), "float32", "network input")
SIZE = TensorSpec("size", (1, 1), "int64", "network input")
X = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


def load(samples: data.Samples, *specs: TensorSpec, batched: bool = True) -> data.Dataset:
    return data.load(
        samples, specs or (IMAGE,), batched=batched, what="calibration data", output=(3,)
    )


@pytest.mark.parametrize(
    "samples",
    [X, (X, None), {"x": X}, {"image": X}, (X, np.arange(4)), {"x": X, "y": [0, 1, 2, 3]}],
)
def test_the_ways_to_hand_over_one_input(samples: data.Samples) -> None:
    loaded = load(samples)
    np.testing.assert_array_equal(loaded.inputs["image"], X)
    assert len(loaded) == 4
    assert loaded.labels is None or loaded.labels.tolist() == [0, 1, 2, 3]


def test_several_inputs_by_name_from_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", image=X, size=np.ones((4, 1), np.uint8), y=np.zeros(4, np.uint8))
    loaded = load(tmp_path / "s.npz", IMAGE, SIZE)
    assert loaded.inputs["size"].dtype == np.int64
    assert loaded.labels is not None
    assert loaded.take(np.array([1, 3])).inputs["image"].shape == (2, 2, 3)


def test_a_network_without_batch_axis_takes_whole_arrays() -> None:
    spec = TensorSpec("t", (2, 3), "float32", "network input")
    assert load(X, spec, batched=False).inputs["t"].shape == (4, 2, 3)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"picture": X}, "expected arrays x or image .* found picture"),
        ({"image": X, "extra": X}, "found image, extra"),
        (X.reshape(4, 3, 2), r"expects samples of shape \[N, 2, 3\], found .* \[4, 3, 2\]"),
        (np.float32(3), r"found an array of shape \[\]"),
        (X.astype(complex), "expects float32, found complex128"),
        (X.astype(np.float64) + 1e-12, "expects float32, found float64"),
        (np.full((4, 2, 3), 2**24 + 1), "expects float32, found int64"),
        (np.where(X == 7, np.nan, X).astype(np.float32), "1 values that are NaN.* in sample 1"),
        (X[:0], "at least one sample"),
        ((X, np.zeros((4, 10))), r"one class number per sample, shape \[4\].* \[4, 10\]"),
        ((X, np.zeros(3)), r"shape \[4\]; found shape \[3\]"),
        ((X, np.full(4, 0.5)), "integers.*, found float64"),
        ((X, X, X), "found a tuple of 3"),
    ],
)
def test_what_does_not_fit_is_refused(samples: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"calibration data: .*{message}"):
        load(samples)


def test_real_numbers_of_the_outputs_shape_are_targets_of_a_regression() -> None:
    targets = np.linspace(0, 1, 12).reshape(4, 3)
    assert load((X, targets)).regression
    with pytest.raises(UserError, match="one class number per sample"):
        load((X, np.eye(4)[:, :3]))


def test_labels_that_nobody_asked_for_are_ignored() -> None:
    loaded = data.load((X, np.zeros(3)), (IMAGE,), batched=True, what="input data")
    assert loaded.labels is None


def test_inputs_of_different_lengths_are_refused() -> None:
    with pytest.raises(UserError, match=r"different numbers of samples.*4.*3"):
        load({"image": X, "size": np.ones((3, 1), int)}, IMAGE, SIZE)


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match="cannot be read as an npz file"):
        load(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(UserError, match="found a single array"):
        load(tmp_path / "one.npy")
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot be read as an npz file of plain arrays"):
        load(tmp_path / "objects.npz")
    (tmp_path / "whole.npz").write_bytes((tmp_path / "objects.npz").read_bytes()[:60])
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "whole.npz")


def test_constant_samples_are_refused() -> None:
    with pytest.raises(UserError, match="all 4 samples are the same"):
        data.check_varied(load(np.ones((4, 2, 3), np.float32)), "calibration data")
    data.check_varied(load(X), "calibration data")


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [-1, 0, 0, 0]])
def test_labels_out_of_range_are_refused(labels: list[int]) -> None:
    with pytest.raises(UserError, match=r"from 0 to 2.*found"):
        data.check_labels(load((X, np.array(labels))), 3, "calibration data")
    data.check_labels(load((X, np.array([0, 2, 1, 0]))), 3, "calibration data")


@given(hnp.arrays(st.sampled_from([np.uint8, np.int16, np.int64]), (2, 2, 3)))
def test_integers_are_cast_exactly_or_refused(values: np.ndarray[Any, Any]) -> None:
    exact = bool(np.all(np.float32(values).astype(object) == values.astype(object)))
    if exact:
        assert load(values).inputs["image"].astype(object).tolist() == values.tolist()
    else:
        with pytest.raises(UserError, match="cannot hold exactly"):
            load(values)
