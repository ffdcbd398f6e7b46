"""The functions of a plan while it is being made: equal functions share one symbol."""

from __future__ import annotations

from typing import Any

from offramp.backends.tvm.bare import Bare
from offramp.backends.tvm.selection import Selection, build


class SymbolTable:
    """Gives every function a symbol, `program_kind_number`."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.kernels: dict[str, Bare] = {}
        self._symbols: dict[Any, str] = {}

    def kernel(self, selection: Selection) -> str:
        """The symbol of a kernel; its function is built if no equal one is there."""
        spec, extended = selection.spec, selection.extended
        if spec not in self._symbols:
            function = Bare(
                function=build(spec),
                extended=None if extended is None else build(extended),
                microkernels=selection.microkernels,
                dtypes=selection.dtypes or ("float32",) * (len(selection.arguments) + 1),
                workspace=selection.workspace,
            )
            self._symbols[spec] = self._add(selection.kind, function)
        return self._symbols[spec]

    def tail(self, function: Bare) -> str:
        """The symbol of a function that TVM made, or of an equal one."""
        import tvm_ffi

        key = tvm_ffi.StructuralKey(function.function)
        if key not in self._symbols:
            self._symbols[key] = self._add("tail", function)
        return self._symbols[key]

    def _add(self, kind: str, function: Bare) -> str:
        symbol = f"{self.program}_{kind}_{len(self.kernels)}"
        self.kernels[symbol] = function
        return symbol
