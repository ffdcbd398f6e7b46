"""What the tail hands to the kernel library: one fused function and the values it connects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Operand = str | npt.NDArray[np.generic]
"""A value by name, or the contents of a constant."""


@dataclass(frozen=True)
class TailCall:
    """One call of a scheduled PrimFunc over dense, row-major buffers.

    func: the PrimFunc; its buffer parameters are the inputs, then the outputs, all of static
        shape. None for a view: the one output is the first input under another shape, and no
        code runs.
    inputs: values of the graph, outputs of earlier calls, or constants.
    outputs: names, unique within the list of calls; a graph output keeps its own name.
    output_shapes, output_dtypes: one for each output; dtypes by NumPy (or ml_dtypes) name.
    nodes: the ONNX nodes computed here, by name.
    """

    func: Any | None
    inputs: tuple[Operand, ...]
    outputs: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    output_dtypes: tuple[str, ...]
    nodes: tuple[str, ...] = ()

    @property
    def is_view(self) -> bool:
        """Whether the output shares the memory of the input."""
        return self.func is None
