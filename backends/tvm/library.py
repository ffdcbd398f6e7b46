"""The kernels of one artifact: compiled together, as C source or as an object file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offramp.backends import tools
from offramp.backends.tvm.bare import Bare
from offramp.backends.tvm.c_dialect import for_c, standalone
from offramp.backends.tvm.dispatch import dispatcher, parameters
from offramp.backends.tvm.elementary import with_vector_functions
from offramp.compiler.targets import Target

_BASE, _EXTENDED = "_base", "_extended"


class KernelLibrary:
    """Bare C functions by symbol: `void symbol(T *arg0, ..., T *argN[, uint8_t *workspace])`."""

    def __init__(self, kernels: Mapping[str, Bare], target: Target) -> None:
        self._kernels = dict(kernels)
        self.target = target

    @property
    def symbols(self) -> tuple[str, ...]:
        """The functions defined, in order of first use."""
        return tuple(self._kernels)

    def prototypes(self) -> str:
        """C declarations of all functions, one a line."""
        lines = (f"void {s}({parameters(k)});\n" for s, k in self._kernels.items())
        return "".join(lines)

    def to_c(self) -> str:
        """Self-contained C99 that needs `<math.h>` and `<string.h>` only."""
        functions = {s: for_c(k.function) for s, k in self._kernels.items()}
        used = dict.fromkeys(m for k in self._kernels.values() for m in k.microkernels)
        source = _compile(functions, {"kind": "c"}).inspect_source()
        return standalone(source, {m.name: m.source() for m in used})

    def to_object(self, path: Path) -> None:
        """Write an ELF object, position independent, for the target's instruction set.

        Kernels that have an extended version are entered through a function that chooses by the
        processor it runs on.

        Raises:
            ToolError: gcc is missing or failed.
        """
        with tempfile.TemporaryDirectory(prefix="offramp-") as scratch:
            parts = self._objects(Path(scratch))
            if len(parts) == 1:
                shutil.copy(parts[0], path)
            else:
                tools.run(["gcc", "-r", "-nostdlib", "-o", str(path.absolute()), *map(str, parts)])

    def _objects(self, folder: Path) -> list[Path]:
        """One object a processor, and the functions that choose between them."""
        both = {s: k for s, k in self._kernels.items() if k.extended is not None}
        base = {s + _BASE if s in both else s: k.function for s, k in self._kernels.items()}
        objects = [folder / "base.o"]
        _compile(base, self.target.llvm).write_to_file(str(objects[0]), "o")
        extended = self.target.extended()
        if both and extended is not None and self.target.extension is not None:
            objects += [folder / "extended.o", folder / "dispatch.o"]
            functions = {s + _EXTENDED: k.extended for s, k in both.items()}
            _compile(functions, extended.llvm).write_to_file(str(objects[1]), "o")
            source = dispatcher(both, self.target.extension.processor, (_BASE, _EXTENDED))
            (folder / "dispatch.c").write_text(source)
            flags = ["-std=c99", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror"]
            tools.run(["gcc", *flags, "-c", "dispatch.c", "-o", "dispatch.o"], folder=folder)
        return objects


def _compile(functions: Mapping[str, Any], attributes: Mapping[str, object]) -> Any:
    """A TVM runtime module with bare functions, compiled for one LLVM or C target."""
    import tvm

    target = tvm.target.Target(dict(attributes))
    if attributes["kind"] == "llvm":
        functions = {s: with_vector_functions(f) for s, f in functions.items()}
    named = {
        symbol: function.with_attr("global_symbol", symbol).with_attr("target", target)
        for symbol, function in functions.items()
    }
    module = tvm.tirx.transform.LowerIntrin()(tvm.IRModule(named))
    return tvm.get_global_func(f"target.build.{attributes['kind']}")(module, target)
