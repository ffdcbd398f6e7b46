"""C around kernels: their prototypes, and the choice between two processors."""

from __future__ import annotations

from collections.abc import Mapping

from offramp.backends.tvm.bare import Bare

C_TYPES = {
    "bool": "bool",
    "float16": "uint16_t",
    "float32": "float",
    "float64": "double",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
}

_DETECT = """\
#include <stdbool.h>
#include <stdint.h>

static int extended;

__attribute__((constructor)) static void detect(void) {{
  __builtin_cpu_init();
  extended = __builtin_cpu_supports("{processor}");
}}
"""

_CHOOSE = """
__attribute__((visibility("hidden"))) void {base}({parameters});
__attribute__((visibility("hidden"))) void {extended}({parameters});
void {symbol}({parameters});
void {symbol}({parameters}) {{
  if (extended)
    {extended}({arguments});
  else
    {base}({arguments});
}}
"""


def parameters(kernel: Bare) -> str:
    """The parameter list of a kernel in C: `float *a0, float *a1`."""
    pointers = [C_TYPES[dtype] for dtype in kernel.dtypes]
    if kernel.workspace:
        pointers.append("uint8_t")
    return ", ".join(f"{pointer} *a{i}" for i, pointer in enumerate(pointers))


def dispatcher(kernels: Mapping[str, Bare], processor: str, suffixes: tuple[str, str]) -> str:
    """C source of functions that call the second version on `processor`, else the first."""
    source = _DETECT.format(processor=processor)
    for symbol, kernel in kernels.items():
        count = len(kernel.dtypes) + (1 if kernel.workspace else 0)
        source += _CHOOSE.format(
            symbol=symbol,
            base=symbol + suffixes[0],
            extended=symbol + suffixes[1],
            parameters=parameters(kernel),
            arguments=", ".join(f"a{i}" for i in range(count)),
        )
    return source
