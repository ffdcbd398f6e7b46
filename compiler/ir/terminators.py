"""How a block ends.

A terminator holds no values: its operands are positions in `Block.graph.outputs`. So graph passes,
which treat graph outputs as uses and replace them in place, keep terminators right without
knowing them, and terminators are plain immutable data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Successor:
    """Where control goes, and which operands become the parameters of that block, in order."""

    block: str
    args: tuple[int, ...] = ()


@dataclass(frozen=True)
class Return:
    """End of the network: answer with `values`; `confidence` is an optional score operand."""

    values: tuple[int, ...]
    confidence: int | None = None

    @property
    def successors(self) -> tuple[Successor, ...]:
        """No block follows."""
        return ()

    @property
    def operands(self) -> tuple[int, ...]:
        """All operand positions, in the order of the fields."""
        return self.values if self.confidence is None else (*self.values, self.confidence)


@dataclass(frozen=True)
class Exit:
    """Answer with `values` if `score >= threshold`, else go on to `else_`.

    The score is a float scalar (one element, any rank); higher means more certain, whatever the
    criterion. The threshold is data, so that it can move at run time.
    """

    values: tuple[int, ...]
    score: int
    threshold: float
    criterion: str
    else_: Successor

    @property
    def successors(self) -> tuple[Successor, ...]:
        """The block that runs when the sample stays."""
        return (self.else_,)

    @property
    def operands(self) -> tuple[int, ...]:
        """All operand positions, in the order of the fields."""
        return (*self.values, self.score, *self.else_.args)


@dataclass(frozen=True)
class Branch:
    """Two-way on the boolean operand `when`; both ways join in a later block."""

    when: int
    then: Successor
    else_: Successor

    @property
    def successors(self) -> tuple[Successor, ...]:
        """`then`, `else_`."""
        return (self.then, self.else_)

    @property
    def operands(self) -> tuple[int, ...]:
        """All operand positions, in the order of the fields."""
        return (self.when, *self.then.args, *self.else_.args)


@dataclass(frozen=True)
class Switch:
    """k-way on the integer operand `index`, clamped to the cases; all join in a later block."""

    index: int
    cases: tuple[Successor, ...]

    @property
    def successors(self) -> tuple[Successor, ...]:
        """The cases, in order."""
        return self.cases

    @property
    def operands(self) -> tuple[int, ...]:
        """All operand positions, in the order of the fields."""
        return (self.index, *(arg for case in self.cases for arg in case.args))


@dataclass(frozen=True)
class Jump:
    """Go on to `to`."""

    to: Successor

    @property
    def successors(self) -> tuple[Successor, ...]:
        """The one block that follows."""
        return (self.to,)

    @property
    def operands(self) -> tuple[int, ...]:
        """All operand positions, in the order of the fields."""
        return self.to.args


Terminator = Return | Exit | Branch | Switch | Jump


def with_successors(terminator: Terminator, successors: tuple[Successor, ...]) -> Terminator:
    """The same terminator leading to `successors` (as many as it had)."""
    match terminator:
        case Return():
            return terminator
        case Exit():
            return replace(terminator, else_=successors[0])
        case Branch():
            return replace(terminator, then=successors[0], else_=successors[1])
        case Switch():
            return replace(terminator, cases=successors)
        case Jump():
            return replace(terminator, to=successors[0])
