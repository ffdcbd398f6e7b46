"""The kernels of one artifact: compiled together, as C source or as an object file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from offramp.backends.tvm.bare import Bare, finalize
from offramp.backends.tvm.c_dialect import for_c
from offramp.compiler.targets import Target

_C_TYPES = {
    "float32": "float",
    "float64": "double",
    "bool": "bool",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
    "float16": "uint16_t",
}
_HEADER = "#include <math.h>\n#include <stdbool.h>\n#include <stdint.h>\n#include <string.h>\n"


class KernelLibrary:
    """Bare C functions by symbol: `void symbol(T *arg0, ..., T *argN[, uint8_t *workspace])`."""

    def __init__(self, kernels: Sequence[Bare], target: Target) -> None:
        self._kernels = {kernel.symbol: kernel for kernel in kernels}
        self.target = target

    @property
    def symbols(self) -> tuple[str, ...]:
        """The functions defined, in order of first use."""
        return tuple(self._kernels)

    def prototypes(self) -> str:
        """C declarations of all functions, one a line."""
        return "".join(f"{_prototype(kernel)};\n" for kernel in self._kernels.values())

    def to_c(self) -> str:
        """Self-contained C99 that needs `<math.h>` and `<string.h>` only."""
        import tvm

        target = tvm.target.Target({"kind": "c"})
        kernels = [replace(k, function=for_c(k.function)) for k in self._kernels.values()]
        source = _build(kernels, target).inspect_source()
        return _HEADER + _strip(source)

    def to_object(self, path: Path) -> None:
        """Write an ELF object, position independent, for the target's instruction set."""
        import tvm

        target = tvm.target.Target(self.target.llvm)
        _build(self._kernels.values(), target).write_to_file(str(path), "o")


def _build(kernels: Any, target: Any) -> Any:
    import tvm

    module = tvm.IRModule({k.symbol: finalize(k.function, k.symbol, target) for k in kernels})
    module = tvm.tirx.transform.LowerIntrin()(module)
    return tvm.get_global_func(f"target.build.{target.kind.name}")(module, target)


def _prototype(kernel: Bare) -> str:
    pointers = [f"{_C_TYPES[dtype]} *" for dtype in kernel.dtypes]
    if kernel.workspace:
        pointers.append("uint8_t *")
    return f"void {kernel.symbol}({', '.join(pointers)})"


def _strip(source: str) -> str:
    """Without TVM's includes, linkage macros and library context."""
    lines, skip = [], False
    for line in source.splitlines():
        if line.startswith(("#include", "#define TVM_EXPORTS", "// tvm target", "void* __tvm_ffi")):
            continue
        if line.startswith("#ifdef __cplusplus"):
            skip = True
        elif skip:
            skip = not line.startswith("#endif")
        else:
            lines.append(line.removeprefix("TVM_DLL "))
    return "\n".join(lines) + "\n"
