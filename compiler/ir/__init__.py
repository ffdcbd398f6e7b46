"""The one IR: `Program`, its blocks and terminators."""

from offramp.compiler.ir.program import Annotations, Block, Program
from offramp.compiler.ir.terminators import (
    Branch,
    Exit,
    Jump,
    Return,
    Successor,
    Switch,
    Terminator,
    with_successors,
)

__all__ = [
    "Annotations",
    "Block",
    "Branch",
    "Exit",
    "Jump",
    "Program",
    "Return",
    "Successor",
    "Switch",
    "Terminator",
    "with_successors",
]
