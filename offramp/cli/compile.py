"""`compile`: a trained network in, an artifact out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from offramp.cli.progress import showing_progress
from offramp.cli.session import answering, ends_cleanly
from offramp.cli.tables import compile_json, compile_tables
from offramp.compiler import boards, targets

COMPILE_EXAMPLES = """\
[bold]Examples[/bold]

Within half a point of accuracy, certified at 90 %, for a microcontroller:

    compile net.onnx --target cortex-m7 --calibration data.npz --accuracy-drop 0.5 -o out/

Heads trained on their own data, machine-readable result:

    compile net.onnx --target x86-64 --train train.npz --calibration cal.npz --json -o out/

For a board that one can buy; refused if its memories are too small:

    compile net.onnx --board nucleo-f446re --calibration data.npz -o out/

A float network in 8-bit integers, without exits:

    compile net.onnx --target cortex-m7 --quantize int8 --calibration data.npz --no-exits -o out/

For images larger than the RAM allows, the first layers in bands of rows:

    compile net.onnx --board nano-33-ble --patches 20 --no-exits -o out/

Without exits, just the code:

    compile net.onnx --target cortex-m7 --no-exits -o out/
"""


@ends_cleanly
def compile_command(
    model: Annotated[Path, typer.Argument(help="An ONNX file.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help=f"Machine to compile for: one of {', '.join(targets.names())}.",
            show_default="the board's, or x86-64",
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            "--board",
            help="Microcontroller board: refuse what its memories do not hold. One of "
            f"{', '.join(boards.names())}.",
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(
            "--train", help="npz with x (or one array per input) and y: trains the heads."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            help="npz of samples like those met in use, with y if there are labels: chooses and "
            "certifies the exits on disjoint parts, and trains the heads on a third part if "
            "--train is not given.",
        ),
    ] = None,
    accuracy_drop: Annotated[
        float, typer.Option("--accuracy-drop", help="Budget in percentage points.")
    ] = 1.0,
    confidence: Annotated[
        float, typer.Option("--confidence", help="Probability that the certificate holds.")
    ] = 0.9,
    risk: Annotated[
        str,
        typer.Option(
            "--risk",
            help="drop: the accuracy lost, mended answers counted as won; "
            "flip: the chance that a right answer becomes wrong.",
        ),
    ] = "drop",
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same artifact.")] = 0,
    no_exits: Annotated[
        bool, typer.Option("--no-exits", help="Compile the network as it is.")
    ] = False,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Train the backbone together with the heads.")
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Round quantised operators as TFLite's reference kernels do, bit for bit, where "
            "they are computed in integers (on microcontrollers); a little slower.",
        ),
    ] = False,
    quantize: Annotated[
        str | None,
        typer.Option(
            "--quantize",
            metavar="PRECISION",
            help="int8: turn a float network into 8-bit integers first; needs --calibration. "
            "mixed: with activations of 16 bits where --quantize-drop asks for them, and weights "
            "of 4 bits in as many layers as it allows. "
            "Budget and certificate of exits are then relative to the quantised network.",
        ),
    ] = None,
    quantize_drop: Annotated[
        float,
        typer.Option(
            "--quantize-drop",
            metavar="POINTS",
            help="Accuracy that --quantize mixed may lose, on the samples that it takes ranges "
            "from.",
        ),
    ] = 0.5,
    optimize: Annotated[
        str,
        typer.Option(
            "--optimize",
            metavar="size|speed",
            help="speed: on Cortex-M4 and M7, store integer weights as 16 bits: fewer instructions "
            "for up to twice the flash. With --board, also copy weights that are read often into "
            "RAM that is left.",
        ),
    ] = "size",
    integer_inputs: Annotated[
        bool,
        typer.Option(
            "--integer-inputs",
            help="With --quantize: let the network read signed bytes, a quarter of float32's "
            "memory; inspect --json says what they stand for. Calibration and training data stay "
            "real numbers.",
        ),
    ] = False,
    patches: Annotated[
        float,
        typer.Option(
            "--patches",
            metavar="PERCENT",
            help="Compute the first layers band by band of rows, for the least arena that at most "
            "so many percent more multiply-accumulates buy.",
            show_default="0: whole images",
        ),
    ] = 0.0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the artifact in the output folder.")
    ] = False,
    print_after: Annotated[
        str | None,
        typer.Option("--print-after", metavar="PASS", help="Print the program after this pass."),
    ] = None,
    timing: Annotated[
        bool, typer.Option("--timing", help="Print how long each pass took.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")
    ] = False,
) -> None:
    """Compile a trained network, with early exits whose accuracy loss is certified.

    Exits are added as far as the calibration samples can certify the budget; where they cannot,
    the network is compiled as it is, and the reason is given.
    """
    from offramp import api

    with answering(as_json) as answer, showing_progress() as observer:
        artifact = api.compile(
            model,
            target=target,
            board=board,
            output=output,
            calibration=calibration,
            train=train,
            accuracy_drop=accuracy_drop,
            confidence=confidence,
            risk=risk,
            seed=seed,
            exits=not no_exits,
            finetune=finetune,
            exact=exact,
            quantize=quantize,
            quantize_drop=quantize_drop,
            optimize=optimize,
            integer_inputs=integer_inputs,
            patches=patches,
            force=force,
            print_after=print_after,
            observer=observer,
        )
        answer.data = compile_json(artifact.manifest)
        answer.shown = compile_tables(artifact.manifest, output)
        if timing:
            observer.print_timing()
