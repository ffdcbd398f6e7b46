"""Samples and labels: read from npz files or arrays, and checked against the network's inputs."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from offramp.compiler.errors import UserError
from offramp.compiler.manifest import TensorSpec

Array: TypeAlias = npt.NDArray[Any]
Samples: TypeAlias = "str | Path | Array | tuple[Array, Array | None] | Mapping[str, Array]"
"""A path of an npz file, `x`, `(x, y)`, or arrays by name (`x` or input names, and maybe `y`)."""

LABELS = "y"
SINGLE_INPUT = "x"


STAND_FOR = "integers q stand for "
"""How the meaning of an input says which real numbers its integers are."""


@dataclass(frozen=True)
class Dataset:
    """Checked samples: the arrays of `inputs` have one leading axis of samples, `labels` is 1-D.

    inputs: by input name, in the dtype the network expects. labels: int64 class numbers, or None.
    regression: `y` holds real numbers of the output's shape, so the network tells no classes apart.
    """

    inputs: dict[str, Array]
    labels: npt.NDArray[np.int64] | None
    regression: bool = False

    def __len__(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    def take(self, index: npt.NDArray[np.intp]) -> Dataset:
        """The samples at `index`."""
        labels = None if self.labels is None else self.labels[index]
        inputs = {name: x[index] for name, x in self.inputs.items()}
        return Dataset(inputs, labels, self.regression)

    def with_inputs(self, changed: Mapping[str, Array]) -> Dataset:
        """The same samples with some inputs in another form."""
        return Dataset({**self.inputs, **changed}, self.labels, self.regression)


def load(
    samples: Samples,
    specs: tuple[TensorSpec, ...],
    *,
    batched: bool,
    what: str,
    output: tuple[int, ...] | None = None,
) -> Dataset:
    """Samples from a file or arrays, checked against the inputs `specs` of a network.

    batched: the leading axis of each spec counts samples; else each sample is a whole array.
    what: how messages call the samples ("calibration data", ...).
    output: shape of one sample's answer, if labels are wanted; else `y` is ignored.

    Raises:
        UserError: the file cannot be read; a name, shape, dtype or value is not as expected.
    """
    arrays = _arrays(samples, what)
    named = _by_input_name(arrays, specs, what)
    inputs = {
        spec.name: _checked(named[spec.name], spec, batched=batched, what=what) for spec in specs
    }
    counts = {name: len(x) for name, x in inputs.items()}
    if len(set(counts.values())) > 1:
        raise UserError(f"{what}: inputs have different numbers of samples: {counts}")
    count = next(iter(counts.values()))
    if count == 0:
        raise UserError(f"{what}: expected at least one sample, found none")
    labels = arrays.get(LABELS)
    if output is None or labels is None or LABELS in {spec.name for spec in specs}:
        return Dataset(inputs, None)
    if labels.shape == (count, *output) and not _is_whole(labels):
        return Dataset(inputs, None, regression=True)
    return Dataset(inputs, _labels(labels, count, what))


def check_varied(data: Dataset, what: str) -> None:
    """Refuse samples that are all the same: nothing can be learned or certified from them.

    Raises:
        UserError: there are two samples or more and every input is constant over them.
    """
    if len(data) > 1 and all(bool(np.all(x == x[:1])) for x in data.inputs.values()):
        raise UserError(
            f"{what}: all {len(data)} samples are the same; expected different samples from the "
            "population the network will see"
        )


def check_labels(data: Dataset, classes: int, what: str) -> None:
    """Refuse labels that are no class of the network.

    Raises:
        UserError: a label is below 0 or not below `classes`.
    """
    if data.labels is None:
        return
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"{what}: labels (y) must be class numbers from 0 to {classes - 1}, as the network has "
            f"{classes} outputs; found {low} to {high}"
        )


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an npz file.

    Raises:
        UserError: the file is missing, is no npz file, or holds Python objects.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected an npz file with x and optionally y")
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise UserError(f"{path}: expected an npz file (numpy.savez), found a single array")
        with file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: cannot be read as an npz file of plain arrays: {error}"
        ) from error


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before the work for it is done.

    Raises:
        UserError: its folder does not exist, or the path is a folder.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"cannot write {path}: expected a file in an existing folder")


def write_npz(path: Path, arrays: dict[str, Array]) -> None:
    """Write arrays as an npz file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    named: dict[str, Any] = dict(arrays)
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **named)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error}") from error


def _arrays(samples: Samples, what: str) -> dict[str, Array]:
    if isinstance(samples, str | Path):
        return read_npz(Path(samples))
    if isinstance(samples, tuple):
        if len(samples) != 2:
            raise UserError(f"{what}: expected (x, y), found a tuple of {len(samples)}")
        x, y = samples
        return {SINGLE_INPUT: np.asarray(x)} | ({} if y is None else {LABELS: np.asarray(y)})
    if isinstance(samples, Mapping):
        return {name: np.asarray(array) for name, array in samples.items()}
    return {SINGLE_INPUT: np.asarray(samples)}


def _by_input_name(
    arrays: dict[str, Array], specs: tuple[TensorSpec, ...], what: str
) -> dict[str, Array]:
    """The arrays by input name; `x` stands for the input of a network that has one."""
    names = [spec.name for spec in specs]
    if len(names) == 1 and names[0] not in arrays and SINGLE_INPUT in arrays:
        return {names[0]: arrays[SINGLE_INPUT]}
    missing = [name for name in names if name not in arrays]
    unknown = [name for name in arrays if name not in (*names, LABELS)]
    if missing or unknown:
        wanted = "x or " + names[0] if len(names) == 1 else ", ".join(names)
        found = ", ".join(arrays) or "no arrays"
        raise UserError(f"{what}: expected arrays {wanted} (and optionally y), found {found}")
    return {name: arrays[name] for name in names}


def _checked(array: Array, spec: TensorSpec, *, batched: bool, what: str) -> Array:
    """The array in the dtype and shape of its input, without NaN or infinities."""
    expected = spec.shape[1:] if batched else spec.shape
    if array.ndim == 0 or array.shape[1:] != expected:
        raise UserError(
            f"{what}: input {spec.name!r} expects samples of shape {_shape('N', *expected)}, "
            f"found an array of shape {_shape(*array.shape)}"
        )
    if array.dtype.kind not in "biuf":
        raise UserError(f"{what}: input {spec.name!r} expects {spec.dtype}, found {array.dtype}")
    bad = ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(1, bool)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UserError(
            f"{what}: input {spec.name!r} has {int(bad.sum())} values that are NaN or infinite, "
            f"the first in sample {first[0]}; remove or repair these samples"
        )
    return _cast(array, spec, what)


def _cast(array: Array, spec: TensorSpec, what: str) -> Array:
    dtype = np.dtype(spec.dtype)
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
        exact = cast.dtype == array.dtype or np.array_equal(cast.astype(array.dtype), array)
    if not exact:
        remedy = f"convert the array yourself, for instance with .astype({dtype.name!r})"
        if dtype.kind == "i" and STAND_FOR in spec.meaning:
            remedy = f"quantise the array first: {spec.meaning[spec.meaning.index(STAND_FOR) :]}"
        raise UserError(
            f"{what}: input {spec.name!r} expects {dtype}, found {array.dtype} with values that "
            f"{dtype} cannot hold exactly; {remedy}"
        )
    return np.ascontiguousarray(cast)


def _labels(labels: Array, count: int, what: str) -> npt.NDArray[np.int64]:
    """Labels as int64 class numbers."""
    squeezed = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if squeezed.shape != (count,):
        raise UserError(
            f"{what}: labels (y) must be one class number per sample, shape [{count}]; found shape "
            f"{_shape(*labels.shape)}"
        )
    if not _is_whole(squeezed):
        raise UserError(
            f"{what}: labels (y) must be class numbers (integers), found {labels.dtype}"
        )
    return squeezed.astype(np.int64)


def _is_whole(array: Array) -> bool:
    """Whether all values are integers, whatever the dtype."""
    kind = array.dtype.kind
    return kind in "iub" or (kind == "f" and bool(np.all(array == np.floor(array))))


def _shape(*dims: object) -> str:
    return "[" + ", ".join(str(dim) for dim in dims) + "]"
