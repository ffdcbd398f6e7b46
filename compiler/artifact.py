"""The artifact as a folder: written beside its destination and renamed; read only if unchanged."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from offramp.compiler.errors import UserError
from offramp.compiler.manifest import Manifest, from_json, to_json

MANIFEST = "manifest.json"
PROGRAM = "program.onnx"
"""The compiled Program as one ONNX model (nested If): what the code must agree with."""
REFERENCE = "reference.onnx"
"""The network before exits were added, simplified: what `bench --against onnxruntime` runs."""
REPORT = "report.html"


def check_destination(destination: Path, *, force: bool) -> None:
    """Refuse a destination that must not be written, before any work is done.

    Raises:
        UserError: it exists and `force` is off, or `force` would delete what is no artifact.
    """
    if not os.path.lexists(destination):
        ancestor = _existing_ancestor(destination)
        if not (ancestor.is_dir() and os.access(ancestor, os.W_OK | os.X_OK)):
            raise UserError(f"cannot write {destination}: {ancestor} is not a writable folder")
        return
    if not force:
        raise UserError(f"{destination} exists already: choose another folder, or pass --force")
    replaceable = destination.is_dir() and not destination.is_symlink()
    if not replaceable or (any(destination.iterdir()) and not (destination / MANIFEST).is_file()):
        raise UserError(
            f"{destination} exists and is no artifact (it has no {MANIFEST}): "
            "--force only replaces artifacts; choose another folder"
        )


@contextmanager
def writing(destination: Path, *, force: bool = False) -> Generator[Path]:
    """A new folder to fill, which becomes `destination` when the block ends without an error.

    Whatever interrupts the block (an exception, Ctrl-C) removes the new folder and leaves what
    stood at `destination` untouched; there is never a half-written folder of that name.

    Raises:
        UserError: see `check_destination`.
    """
    destination = Path(os.path.abspath(destination))
    check_destination(destination, force=force)
    beside = _existing_ancestor(destination)
    partial = Path(tempfile.mkdtemp(prefix=f".{destination.name}.partial-", dir=beside))
    try:
        partial.chmod(0o755)
        yield partial
        check_destination(destination, force=force)
        destination.parent.mkdir(parents=True, exist_ok=True)
        _move_into_place(partial, destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Write `manifest.json` with the SHA-256 of every other file of the folder; return it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    hashes = {path.relative_to(folder).as_posix(): file_hash(path) for path in files}
    sealed = replace(manifest, files=hashes)
    (folder / MANIFEST).write_text(to_json(sealed))
    return sealed


def read(folder: Path) -> Manifest:
    """The manifest of an artifact whose files are all there and unchanged.

    Raises:
        UserError: no artifact, another schema version, or a file that is missing or changed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        found = "it has no manifest.json" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{folder} is not an artifact: {found}; `compile` writes one")
    manifest = from_json(path.read_text())
    for name, expected in manifest.files.items():
        _check_file(folder, name, expected)
    return manifest


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_file(folder: Path, name: str, expected: str) -> None:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError(f"{folder}/{MANIFEST} names a file outside the artifact: {name}")
    path = folder / relative
    if not path.is_file():
        raise UserError(f"{folder} is incomplete: {name} is missing; compile the model again")
    found = file_hash(path)
    if found != expected:
        raise UserError(
            f"{folder}/{name} was changed after compilation: expected SHA-256 {expected[:16]}…, "
            f"found {found[:16]}…; compile the model again"
        )


def _existing_ancestor(destination: Path) -> Path:
    """The nearest folder above `destination` that exists."""
    for ancestor in Path(os.path.abspath(destination)).parents:
        if ancestor.exists():
            return ancestor
    raise UserError(f"cannot write {destination}: no folder above it exists")


def _move_into_place(partial: Path, destination: Path) -> None:
    """Rename `partial` to `destination`; an artifact that stood there is restored on failure."""
    if not destination.exists():
        partial.rename(destination)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{destination.name}.replaced-", dir=destination.parent))
    destination.rename(old / "artifact")
    try:
        partial.rename(destination)
    except BaseException:
        (old / "artifact").rename(destination)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
