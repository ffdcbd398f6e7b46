"""How a Program's structure is written in ONNX: node metadata that survives save, load and passes.

Every node of a written model carries its block's name (`BLOCK`) and the block's annotations. Nodes
that are no part of the block but write its terminator carry a `ROLE`; only those are interpreted
when the model is read back, so a model whose nodes of a role do not fit is read as plain ONNX.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from offramp.compiler.ir.program import Annotations, Block
from offramp.compiler.ir.terminators import Successor

BLOCK = "offramp.block"
ANNOTATIONS = "offramp.annotations"
ROLE = "offramp.role"
CRITERION = "offramp.criterion"
THRESHOLD = "offramp.threshold"
SUCCESSORS = "offramp.successors"
"""JSON list of the successors' block names, in the terminator's order."""
ARGUMENTS = "offramp.arguments"
"""JSON list, per successor, of the names of the values that its block captures as parameters."""
JOIN = "offramp.join"

EXIT = "exit"
"""The `GreaterOrEqual(score, threshold)` and the `If` of an Exit."""
BRANCH = "branch"
"""The `If` of a Branch."""
SWITCH = "switch"
"""The outermost `LessOrEqual(index, case)` and `If` of a Switch."""
CASE = "case"
"""The further `LessOrEqual` and `If` of a Switch, nested in the else branches."""
JUMP = "jump"
"""One `Identity` per argument of a Jump."""
PASS = "pass"  # noqa: S105 - a role, no password
"""An `Identity` that gives a branch its own output for a value made elsewhere."""
ANSWER = "answer"
"""Writes the answer of an Exit or Return: Identities, exit index, confidence."""
CONFIDENCE = "confidence"
"""The node that reads the confidence operand of a Return."""

BATCHED = "offramp.batched"
"""Of the model: "true" or "false", whether the inputs' leading axis counts samples."""

EXIT_INDEX_OUTPUT = "exit_index"
CONFIDENCE_OUTPUT = "confidence"

MAX_NESTING = 30
"""Protobuf readers stop at 100 nested messages, and each nested `If` takes three."""
SHARED_BYTES = 1 << 20
"""A tensor above this size that several branches use stays in the outermost graph."""


def annotations_to_json(annotations: Annotations) -> str:
    """The measured facts as JSON; empty when nothing was measured."""
    facts = {key: value for key, value in asdict(annotations).items() if value is not None}
    return json.dumps(facts) if facts else ""


def annotations_from_json(text: str) -> Annotations:
    """Read what `annotations_to_json` wrote."""
    return Annotations(**json.loads(text)) if text else Annotations()


def marks(
    block: Block, role: str | None = None, successors: tuple[Successor, ...] = ()
) -> dict[str, str]:
    """Metadata of a node of `block`, or of a node that writes part of its terminator.

    Args:
        block: the block that the node belongs to.
        role: what the node writes; None for a node of the block itself.
        successors: of the terminator, for the nodes that stand for it.
    """
    found = {BLOCK: block.name}
    if facts := annotations_to_json(block.annotations):
        found[ANNOTATIONS] = facts
    if role:
        found[ROLE] = role
    if successors:
        found[SUCCESSORS] = json.dumps([successor.block for successor in successors])
    return found


def strip(metadata: dict[str, str]) -> None:
    """Remove every entry that this page defines."""
    for key in [key for key in metadata if key.startswith("offramp.")]:
        del metadata[key]
