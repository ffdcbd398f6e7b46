"""The artifact folder: written whole or not at all, read only if unchanged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from offramp.compiler import artifact
from offramp.compiler.errors import UserError
from offramp.compiler.manifest import (
    CertificateEntry,
    CostEntry,
    ExitEntry,
    Manifest,
    MemoryEntry,
    MemoryMap,
    TensorSpec,
    from_json,
    to_json,
)

MANIFEST = Manifest(
    name="net",
    target="x86-64",
    batched=True,
    inputs=(TensorSpec("x", (1, 4), "float32", "network input"),),
    outputs=(TensorSpec("y", (1, 2), "float32", "network output"),),
    static_cost=CostEntry(100, 1000.0, "ns"),
    expected_cost=CostEntry(70.5, 705.0, "ns"),
    exits=(
        ExitEntry("stem", "max_softmax", 0.9, 0.5, 41, 410.0, 0.99),
        ExitEntry("rest", None, None, 0.5, 100, 1000.0),
    ),
    certificate=CertificateEntry("drop", 1.0, 0.9, 0.8, 500),
    reason=None,
    memory=MemoryMap(64, 64, "optimal", ("conv", "dense"), (MemoryEntry("t", 0, 64, 0, 1),)),
)


def write(destination: Path, content: str = "code", *, force: bool = False) -> None:
    with artifact.writing(destination, force=force) as folder:
        (folder / "src").mkdir()
        (folder / "src" / "net.c").write_text(content)
        artifact.seal(folder, MANIFEST)


def write_half(destination: Path, error: type[BaseException]) -> None:
    with artifact.writing(destination, force=True) as folder:
        (folder / "half").write_text("written")
        raise error


def test_a_sealed_folder_reads_back(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "out")
    manifest = artifact.read(tmp_path / "deep" / "out")
    assert set(manifest.files) == {"src/net.c"}
    assert replace(manifest, files={}) == MANIFEST
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


def test_an_existing_folder_is_refused_without_force(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(UserError, match=r"exists already.*--force"):
        write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "src" / "net.c").read_text() == "old"
    write(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out" / "src" / "net.c").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_force_never_deletes_what_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("ten years of work")
    with pytest.raises(UserError, match="is no artifact"):
        write(tmp_path / "home", force=True)
    assert (tmp_path / "home" / "thesis.txt").exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    write(tmp_path / "old", "old")
    for name in ("old", "new"):
        with pytest.raises(error):
            write_half(tmp_path / name, error)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert artifact.read(tmp_path / "old")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a writable folder"):
        write(tmp_path / "file" / "out")


def test_changed_and_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "out")
    code = tmp_path / "out" / "src" / "net.c"
    code.write_text("evil")
    with pytest.raises(UserError, match=r"src/net\.c was changed"):
        artifact.read(tmp_path / "out")
    code.unlink()
    with pytest.raises(UserError, match=r"src/net\.c is missing"):
        artifact.read(tmp_path / "out")


def test_a_folder_that_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        artifact.read(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        artifact.read(tmp_path / "nowhere")


def test_a_file_name_cannot_lead_outside(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(to_json(replace(MANIFEST, files={"../x": "00"})))
    with pytest.raises(UserError, match="outside the artifact"):
        artifact.read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", 99, "schema version 99, this offramp reads version 3"),
        ("target", 3, "manifest.target should be str, found 3"),
        ("inputs", [{"name": "x"}], r"manifest\.inputs\[0\] has missing or unknown keys: dtype"),
        ("inputs", None, "manifest.inputs should be tuple, found None"),
        ("surprise", 1, "manifest has missing or unknown keys: surprise"),
    ],
)
def test_a_foreign_manifest_is_refused(key: str, value: object, message: str) -> None:
    data = json.loads(to_json(MANIFEST)) | {key: value}
    with pytest.raises(UserError, match=message):
        from_json(json.dumps(data))


def test_a_manifest_that_is_no_json_is_refused() -> None:
    with pytest.raises(UserError, match="not valid JSON"):
        from_json("{")
