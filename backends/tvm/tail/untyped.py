"""TVM's modules without their annotations, which are stricter than what the functions accept."""

from __future__ import annotations

from typing import Any

import tvm.ir
import tvm.relax
import tvm.runtime
import tvm.s_tir
import tvm.sym
import tvm.te
import tvm.tirx
import tvm.topi
import tvm_ffi

sym: Any = tvm.sym
ir: Any = tvm.ir
relax: Any = tvm.relax
runtime: Any = tvm.runtime
s_tir: Any = tvm.s_tir
te: Any = tvm.te
tirx: Any = tvm.tirx
topi: Any = tvm.topi
ffi: Any = tvm_ffi
