"""One compilation from the request to the files of an artifact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp import data, describe, pipeline
from offramp.compiler import artifact as folders
from offramp.compiler.ir import Program
from offramp.compiler.ir.to_onnx import to_onnx
from offramp.compiler.manifest import Manifest, PatchEntry, RealLayer
from offramp.observer import Observer
from offramp.options import Options, model_name
from offramp.report.page import render
from offramp.search import add_exits

if TYPE_CHECKING:
    from offramp.backends.tvm.lower import Lowered


@dataclass(frozen=True)
class Request:
    """What to compile, and the samples to choose and certify exits with."""

    model: Any
    calibration: data.Samples | None = None
    train: data.Samples | None = None
    example_inputs: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Compiled:
    """A finished compilation, not yet written: everything but the files of the target."""

    program: Program
    reference: Program
    lowered: Lowered
    manifest: Manifest
    observer: Observer

    def write(self, folder: Path) -> Manifest:
        """Fill an empty folder with the artifact; its manifest, hashes included.

        Raises:
            ToolError: a compiler is missing or failed.
        """
        from offramp import backends

        with self.observer.stage("emitting code"):
            backends.get(self.manifest.target).emit(self.lowered, folder)
        for name, program in ((folders.PROGRAM, self.program), (folders.REFERENCE, self.reference)):
            (folder / name).write_bytes(to_onnx(program).SerializeToString())
        (folder / folders.REPORT).write_text(render(self.manifest, self.program), encoding="utf-8")
        return folders.seal(folder, self.manifest)


def run(request: Request, options: Options, observer: Observer) -> Compiled:
    """Compile; nothing is written.

    Raises:
        UserError, UnsupportedError: see `offramp.compile`.
    """
    with observer.stage("reading the model"):
        original = pipeline.read_model(request.model, request.example_inputs)
    with observer.stage("simplifying"):
        reference = pipeline.simplify(original, options, observer)
    calibration = _dataset(request.calibration, reference, "calibration data")
    train = _dataset(request.train, reference, "training data")
    if options.quantize is not None and calibration is not None:
        with observer.stage("quantising"):
            reference = pipeline.quantize(reference, calibration, train, options, observer)
    if options.integer_inputs:
        reference, calibration, train = pipeline.read_integers(reference, calibration, train)
    if options.board is not None and options.exits and calibration is not None:
        # Exits only add to a network: one too large is refused before any head is trained.
        with observer.stage("checking the board"):
            pipeline.lower(_in_bands(reference, options, observer)[0], options)
    with observer.stage("choosing exits"):
        found = add_exits(reference, calibration, train, options, observer)
    program, patches = _in_bands(found.program, options, observer)
    found = replace(found, program=program)
    with observer.stage("lowering"):
        lowered = pipeline.lower(found.program, options)
    real = tuple(RealLayer(refusal.layer, refusal.reason) for refusal in lowered.refusals)
    manifest = describe.manifest(found, reference, lowered.plan, options)
    manifest = replace(manifest, patches=patches, real_layers=real)
    sources = describe.provenance(options, reference, model_name(request.model), _hashes(request))
    return Compiled(
        found.program, reference, lowered, replace(manifest, provenance=sources), observer
    )


def _in_bands(
    program: Program, options: Options, observer: Observer
) -> tuple[Program, PatchEntry | None]:
    """The program with its first layers in bands, if these were asked for and help."""
    if not options.patches:
        return program, None
    with observer.stage("choosing patches"):
        choice = pipeline.choose_patches(program, options, observer)
    if choice is None:
        return program, None
    entry = PatchEntry(choice.end, choice.bands, choice.macs, choice.arena, choice.arena_before)
    return choice.program, entry


def _dataset(samples: data.Samples | None, program: Program, what: str) -> data.Dataset | None:
    """Samples checked against the network; None if there are none."""
    if samples is None:
        return None
    specs, classes = describe.input_specs(program), describe.class_count(program)
    output = None if classes is None else (classes,)
    dataset = data.load(samples, specs, batched=program.batched, what=what, output=output)
    data.check_varied(dataset, what)
    if classes is not None:
        data.check_labels(dataset, classes, what)
    return dataset


def _hashes(request: Request) -> dict[str, str]:
    """SHA-256 of the files that went in; objects in memory have none."""
    sources = {
        "model": request.model,
        "calibration": request.calibration,
        "training": request.train,
    }
    return {
        name: folders.file_hash(Path(source))
        for name, source in sources.items()
        if isinstance(source, str | Path)
    }
