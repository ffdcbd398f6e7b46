"""The command line: `offramp compile|run|bench|inspect|plan`, and `compile` on its own."""

from __future__ import annotations


def main() -> None:
    """Console script `offramp`."""
    from offramp.cli.app import build_app

    build_app()()


def compile_main() -> None:
    """Console script `compile`: the same as `offramp compile`."""
    from offramp.cli.app import build_compile_app

    build_compile_app()()
