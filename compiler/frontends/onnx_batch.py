"""Set the batch dimension of a model to 1, and tell models that have none."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir.inference import require_numeric, require_size


@dataclass(frozen=True)
class Batch:
    """How the leading axis of the inputs was found.

    batched: it counts samples (and is 1 now). was: its former fixed size, None if it was symbolic.
    changed: it was not 1, so that declared shapes no longer hold.
    """

    batched: bool
    was: int | None
    changed: bool


def set_batch_to_one(model: ir.Model, batched: bool | None = None) -> Batch:
    """Give all inputs static shapes with a leading 1, where they share a leading axis.

    Args:
        model: changed in place.
        batched: True or False overrides what the shapes suggest.

    Raises:
        UserError: an input has no shape, or a symbolic dimension that is no batch; named.
    """
    inputs = tuple(model.graph.inputs)
    if not inputs:
        raise UserError("the model has no inputs: it answers the same always")
    shapes = [_dims(value) for value in inputs]
    leading = {shape[0] if isinstance(shape[0], int) else None for shape in shapes if shape}
    shared = bool(shapes) and all(shapes) and len(leading) == 1
    if batched is None:
        batched = shared
    if batched and not all(shapes):
        raise UserError(
            "a batched model needs a leading batch axis on every input, and one is scalar"
        )
    for value, shape in zip(inputs, shapes, strict=True):
        dims = _static(value, [1, *shape[1:]], 1) if batched else _static(value, shape, 0)
        value.shape = ir.Shape(dims)
        require_size(f"input {value.name!r}", value)
    was = next(iter(leading)) if shared else None
    changed = batched and was != 1
    if changed:
        _forget_shapes(model.graph)
    return Batch(batched, was, changed)


def _dims(value: ir.Value) -> list[int | str | None]:
    require_numeric(f"input {value.name!r}", value)
    if value.shape is None:
        raise UserError(
            f"input {value.name!r} declares no shape: export the model with input shapes"
        )
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape]


def _static(value: ir.Value, shape: list[int | str | None], least: int) -> list[int]:
    """The shape, which has no dimension below `least`.

    An input without elements is of use where only its type or shape is read (CastLike, axes); a
    sample without elements is not.
    """
    static: list[int] = []
    for axis, dim in enumerate(shape):
        if not isinstance(dim, int):
            raise UserError(
                f"input {value.name!r} has the free dimension {dim or '?'!r} at axis {axis} (shape "
                f"{shape}): only the leading batch axis may be free; export the model with a fixed "
                "size there"
            )
        if dim < least:
            raise UserError(f"input {value.name!r} has shape {shape}: there is nothing to compute")
        static.append(dim)
    return static


def _forget_shapes(graph: ir.Graph) -> None:
    for node in graph.all_nodes():
        for value in node.outputs:
            value.shape = None
