"""Why an operator cannot be compiled, in the words of one error message."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import onnx_ir as ir

from offramp.compiler.errors import OfframpError, UnsupportedError

LEDGER = "docs/results/ledger.md"


class RefusalError(Exception):
    """One operator cannot be lowered; the message is the reason, without the node."""


class OwnRefusalError(RefusalError):
    """A lowering of ours refuses; nothing else is tried, because TVM would misread the node."""


def refusal(node: ir.Node, reason: str) -> UnsupportedError:
    """The user's error for one node: operator, node, reason in one line, and the ledger."""
    domain = f"{node.domain}." if node.domain else ""
    return UnsupportedError(
        f"operator {domain}{node.op_type} (node {node_name(node)!r}) cannot be compiled: "
        f"{one_line(reason)}. {LEDGER} lists what compiles"
    )


def node_name(node: ir.Node) -> str:
    """The node's name; nodes without one are called after their first output."""
    return node.name or next((v.name for v in node.outputs if v.name), node.op_type)


def reason_of(error: BaseException) -> str:
    """The last line of an exception's message that says something, without its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def one_line(text: str, limit: int = 240) -> str:
    """`text` on one line of at most `limit` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 3]}..."


@contextmanager
def lowering_of(graph: ir.Graph) -> Generator[None]:
    """Turn whatever TVM raises for this graph into the user's error.

    Raises:
        UnsupportedError: in place of any other exception. A single node is named; of several, the
            one at fault is not known and all operators are listed.
    """
    try:
        yield
    except OfframpError:
        raise
    except Exception as error:
        nodes = list(graph)
        if len(nodes) == 1:
            raise refusal(nodes[0], reason_of(error)) from error
        names = ", ".join(f"{n.op_type} (node {node_name(n)!r})" for n in nodes)
        raise UnsupportedError(
            f"operators {one_line(names)} cannot be compiled together: "
            f"{one_line(reason_of(error))}. {LEDGER} lists what compiles"
        ) from error
