"""Networks in a newer operator set, for what older ones cannot say."""

from __future__ import annotations

from offramp.compiler.errors import UserError
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program
from offramp.compiler.ir.to_onnx import to_onnx

WIDE_OPSET = 21
"""The first operator set whose (de)quantisation knows 16 bits."""


def at_least(program: Program, version: int) -> Program:
    """`program` in operator set `version` or later, with the names that it has.

    Raises:
        UserError: onnx cannot convert it.
    """
    if program.opset_imports.get("", 0) >= version:
        return program
    import onnx

    try:
        converted = onnx.version_converter.convert_version(to_onnx(program), version)
    except Exception as error:
        reason = str(error).rpartition("failed: ")[2].rstrip(" .")
        raise UserError(
            f"{program.name!r} uses operator set {program.opset_imports.get('', 0)} and cannot be "
            f"converted to {version} ({reason}): export the model again with that set"
        ) from error
    return from_onnx(converted, name=program.name, batched=program.batched)
