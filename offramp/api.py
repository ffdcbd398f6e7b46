"""The front door: compile a network, load an artifact, run and measure it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp import data
from offramp.compiler import artifact as folders
from offramp.compiler.manifest import Manifest
from offramp.observer import Observer
from offramp.options import Options, target_of

if TYPE_CHECKING:
    from offramp.backends.base import Bench
    from offramp.compiler.ir import Program
    from offramp.layers import LayerCost
    from offramp.measure import Peer, Result, Session


@dataclass(frozen=True)
class Artifact:
    """A compiled network in a folder.

    An artifact that was compiled without an output folder lives in a temporary one, which is
    deleted with the object; `save` keeps it.
    """

    folder: Path
    manifest: Manifest
    _temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def save(self, folder: str | Path, *, force: bool = False) -> Artifact:
        """Copy the artifact to `folder`.

        Raises:
            UserError: the folder exists and `force` is off, or is no artifact.
        """
        import shutil

        with folders.writing(Path(folder), force=force) as copy:
            shutil.copytree(self.folder, copy, dirs_exist_ok=True)
        return Artifact(Path(folder), self.manifest)

    def run(self, samples: data.Samples) -> Result:
        """Run the compiled code on samples, natively or in the emulator of its target.

        Args:
            samples: `x`, arrays by input name, or the path of an npz file; a leading axis counts
                samples.

        Raises:
            UserError: names, shapes or dtypes of the samples do not fit.
            ToolError: the emulator is missing or failed.
        """
        manifest = self.manifest
        dataset = data.load(samples, manifest.inputs, batched=manifest.batched, what="input data")
        return self._session.run(dataset)

    def bench(self, *, against: str | None = None) -> tuple[Bench, Peer | None]:
        """Measure the cost of every exit, RAM and flash; and the peer, if one is asked for.

        Args:
            against: "onnxruntime", to measure the network without exits there as well; it runs on
                this machine, so it only compares with targets that do.

        Raises:
            UserError: `against` is unknown or does not run on the target.
            ToolError: the emulator is missing or failed.
        """
        peer = None if against is None else self._session.peer(against)
        return self._session.bench(), peer

    def layers(self, measured: Bench) -> list[LayerCost]:
        """MACs, cost, RAM in use and weights of every kernel call.

        Args:
            measured: what `bench` returned for this artifact.
        """
        return self._session.layers(measured)

    @cached_property
    def _session(self) -> Session:
        from offramp.measure import Session

        return Session(self.folder, self.manifest)

    def program(self) -> Program:
        """The compiled Program, as read back from its ONNX form."""
        from offramp.compiler.frontends.onnx import from_onnx

        return from_onnx(self.folder / folders.PROGRAM, batched=self.manifest.batched)

    def program_text(self) -> str:
        """The compiled Program in its textual form."""
        from offramp.compiler.ir.text import to_text

        return to_text(self.program())


def compile(
    model: Any,
    *,
    target: str | None = None,
    board: str | None = None,
    output: str | Path | None = None,
    calibration: data.Samples | None = None,
    train: data.Samples | None = None,
    accuracy_drop: float = 1.0,
    confidence: float = 0.9,
    risk: str = "drop",
    seed: int = 0,
    exits: bool = True,
    finetune: bool = False,
    exact: bool = False,
    quantize: str | None = None,
    quantize_drop: float = 0.5,
    optimize: str = "size",
    patches: float = 0.0,
    integer_inputs: bool = False,
    force: bool = False,
    example_inputs: tuple[Any, ...] | None = None,
    print_after: str | None = None,
    observer: Observer | None = None,
) -> Artifact:
    """Compile a trained network, with early exits as far as their accuracy loss can be certified.

    Args:
        model: an ONNX file (path, bytes, `ModelProto`), a torch `nn.Module`, `ExportedProgram` or
            `fx.GraphModule`, or a `Program`.
        target: machine to compile for, see `offramp.compiler.targets.names()`; by default the
            board's, or x86-64.
        board: microcontroller board whose memories must hold the network, see
            `offramp.compiler.boards.names()`.
        output: folder to write; without it the artifact is temporary, see `Artifact`.
        calibration: samples from the population met in use: `(x, y)`, `x` alone (then the budget
            is on agreement with the full network), arrays by name, or an npz file. Exits are
            chosen and certified on disjoint parts of them; without it there are no exits.
        train: samples to train the heads on; without it a third of `calibration` is used.
        accuracy_drop: budget in percentage points.
        confidence: probability with which the certificate holds.
        risk: "drop" (accuracy lost, mended answers counted as won) or "flip" (chance that a right
            answer becomes wrong).
        seed: the same seed gives the same artifact.
        exits: False compiles the network as it is.
        finetune: train the backbone together with the heads; needs `train`.
        exact: round quantised operators as TFLite's reference kernels do, bit for bit, where they
            are computed in integers (on microcontrollers).
        quantize: "int8" turns a float network into 8-bit integers first, with ranges taken from
            `train`, or else from the part of `calibration` that trains heads. "mixed": activations
            take 16 bits where 8 lose too much, and weights of as many layers as possible take four.
            Budget and certificate of the exits are then
            relative to the quantised network.
        quantize_drop: points of accuracy that "mixed" may lose on these samples against the float
            network; without labels, answers that may change.
        optimize: "speed" stores integer weights of Cortex-M4 and M7 as 16 bits: fewer instructions
            for up to twice the flash, and copies weights that are read often into RAM that a
            `board` has left.
        patches: percent by which multiply-accumulates may grow so that the arena gets smaller: the
            first layers are then computed band by band of rows. 0: they are not.
        integer_inputs: let a network that `quantize` makes read signed bytes instead of float32;
            the manifest says what they stand for. `calibration` and `train` stay real numbers.
        force: replace an artifact that stands at `output`.
        example_inputs: positional inputs of a torch module, to export it with.
        print_after: name of the pass after which the Program is shown to the observer.
        observer: told what is going on.

    Raises:
        UserError: the model, the data or the options are at fault.
        UnsupportedError: the model uses an operator that cannot be compiled.
        ToolError: a compiler is missing or failed.
    """
    from offramp import compilation

    options = Options(
        target=target_of(target, board),
        accuracy_drop=accuracy_drop,
        confidence=confidence,
        risk=risk,
        seed=seed,
        exits=exits,
        finetune=finetune,
        print_after=print_after,
        exact=exact,
        board=board,
        quantize=quantize,
        quantize_drop=quantize_drop,
        optimize=optimize,
        patches=patches,
        integer_inputs=integer_inputs,
    )
    options.check_data(calibration, train)
    if output is not None:
        folders.check_destination(Path(output), force=force)
    request = compilation.Request(model, calibration, train, example_inputs)
    compiled = compilation.run(request, options, observer or Observer())
    if output is not None:
        with folders.writing(Path(output), force=force) as folder:
            manifest = compiled.write(folder)
        return Artifact(Path(output), manifest)
    temporary = tempfile.TemporaryDirectory(prefix="offramp-")
    folder = Path(temporary.name)
    return Artifact(folder, compiled.write(folder), temporary)


def load(folder: str | Path) -> Artifact:
    """Open an artifact after checking its schema version and the hash of every file.

    Raises:
        UserError: it is no artifact, of another version, incomplete or changed.
    """
    return Artifact(Path(folder), folders.read(Path(folder)))


def from_onnx(model: Any, *, name: str | None = None) -> Program:
    """Read an ONNX model (path, bytes, `ModelProto`) into a Program, to apply passes to."""
    from offramp.compiler.frontends.onnx import from_onnx as read

    return read(model, name=name)


def from_torch(model: Any, example_inputs: tuple[Any, ...] | None = None) -> Program:
    """Read a torch `nn.Module`, `ExportedProgram` or `fx.GraphModule` into a Program."""
    from offramp.compiler.frontends.torch import from_torch as read

    return read(model, example_inputs)
