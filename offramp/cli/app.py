"""The typer applications behind the console scripts."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from offramp.cli.bench import BENCH_EXAMPLES, bench
from offramp.cli.compile import COMPILE_EXAMPLES, compile_command
from offramp.cli.inspect import INSPECT_EXAMPLES, inspect
from offramp.cli.plan import PLAN_MEMORY_EXAMPLES, plan_memory
from offramp.cli.run import RUN_EXAMPLES, run

DESCRIPTION = """\
A compiler for dynamic networks: trained network in, certified early-exit artifact out.

Exit codes: 0 success, 1 a bug of offramp, 2 a fault in the model, the data or the arguments,
3 a compiler or an emulator is missing or failed.
"""


def build_app() -> typer.Typer:
    """`offramp` with its subcommands."""
    app = _new_app(DESCRIPTION)
    app.callback()(_version_option)
    app.command("compile", epilog=COMPILE_EXAMPLES)(compile_command)
    app.command("run", epilog=RUN_EXAMPLES)(run)
    app.command("bench", epilog=BENCH_EXAMPLES)(bench)
    app.command("inspect", epilog=INSPECT_EXAMPLES)(inspect)
    plans = _new_app(None)
    plans.command("memory", epilog=PLAN_MEMORY_EXAMPLES)(plan_memory)
    plans.callback()(_plan)
    app.add_typer(plans, name="plan")
    return app


def build_compile_app() -> typer.Typer:
    """`compile` as a program of its own."""
    app = _new_app(None)
    app.command(epilog=COMPILE_EXAMPLES)(compile_command)
    return app


def _plan() -> None:
    """Plan resources of stand-alone problems: memory."""


def _new_app(description: str | None) -> typer.Typer:
    return typer.Typer(
        help=description,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"offramp {metadata.version('offramp')}")
        raise typer.Exit


def _version_option(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of `offramp` itself."""
