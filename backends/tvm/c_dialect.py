"""Before and after TVM's C code generator: what it needs, and what it leaves behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np


def for_c(function: Any) -> Any:
    """The function with maxima, minima and fused multiply-adds as C expresses them best.

    The code generator would name the operands of `max` and `min` once per scope, and go on using
    the names after the memory they were loaded from has changed. `fmaxf`, `fminf` and `fmaf` are
    also one instruction each on most floating-point units, whatever the compiler's options are.
    And it would write constants with seven digits, where float32 needs nine.
    """
    import tvm_ffi
    from tvm import ir, tirx

    rewrites = (
        (tirx.Max, _maximum),
        (tirx.Min, _minimum),
        (ir.Call, _call),
        (tirx.FloatImm, _exact),
    )
    return function.with_body(tvm_ffi.structural_map(function.body, rewrites))


def _call(node: Any) -> Any:
    from tvm import tirx

    dtype = str(node.ty)
    match getattr(node.op, "name", ""):
        case "tirx.fma":
            return tirx.call_pure_extern("float32", "fmaf", *node.args)
        case "tirx.fabs" if dtype in ("float32", "float64"):
            return tirx.call_pure_extern(
                dtype, "fabsf" if dtype == "float32" else "fabs", *node.args
            )
        case "tirx.fabs":
            (value,) = node.args
            return tirx.if_then_else(value < 0, 0 - value, value)
        case _:
            return node


def _exact(node: Any) -> Any:
    """A constant that needs more digits, as a call that `standalone` turns into its literal."""
    from tvm import tirx

    dtype, value = str(node.ty.dtype), float(node.value)
    if dtype not in _SUFFIXES or not np.isfinite(value):
        return node
    if np.dtype(dtype).type(f"{value:e}") == np.dtype(dtype).type(value):
        return node
    bits = np.float64(value).view(np.uint64)
    return tirx.call_pure_extern(dtype, f"{dtype}_literal_{bits:016x}")


_SUFFIXES = {"float32": "f", "float64": ""}
_LITERAL = re.compile(r"(float32|float64)_literal_([0-9a-f]{16})\(\)")


_DECLARATION = re.compile(rf"\w+ {_LITERAL.pattern};")


def _literal(match: re.Match[str]) -> str:
    value = np.uint64(int(match[2], 16)).view(np.float64)
    return f"{value:.{8 if match[1] == 'float32' else 16}e}{_SUFFIXES[match[1]]}"


def _maximum(node: Any) -> Any:
    return _extreme(node, {"float32": "fmaxf", "float64": "fmax"}, node.a > node.b)


def _minimum(node: Any) -> Any:
    return _extreme(node, {"float32": "fminf", "float64": "fmin"}, node.a < node.b)


def _extreme(node: Any, functions: dict[str, str], a_wins: Any) -> Any:
    from tvm import tirx

    dtype = str(node.ty.dtype)
    if dtype in functions:
        return tirx.call_pure_extern(dtype, functions[dtype], node.a, node.b)
    return tirx.if_then_else(a_wins, node.a, node.b)


_HEADER = "#include <math.h>\n#include <stdbool.h>\n#include <stdint.h>\n#include <string.h>\n"


_INFINITY = re.compile(r"\binff?\b")
"""How the code generator writes infinity, which is no C; `<math.h>` has a name for it."""


def standalone(source: str, definitions: Mapping[str, str]) -> str:
    """Generated source without TVM's includes, linkage macros and library context.

    definitions: functions by name that go before everything else; their declarations go.
    """
    unwanted = ("#include", "#define TVM_EXPORTS", "// tvm target", "void* __tvm_ffi")
    declared = tuple(f"void {name}(" for name in definitions)
    lines: list[str] = []
    is_guarded = False
    for line in source.replace("TVM_DLL ", "").splitlines():
        if line.startswith("#ifdef __cplusplus"):
            is_guarded = True
        elif is_guarded:
            is_guarded = not line.startswith("#endif")
        elif not line.startswith((*unwanted, *declared)) and not _DECLARATION.match(line):
            lines.append(_LITERAL.sub(_literal, _INFINITY.sub("INFINITY", line)))
    return "\n".join([_HEADER, *definitions.values(), *lines]) + "\n"
