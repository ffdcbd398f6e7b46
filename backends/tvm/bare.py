"""PrimFuncs with the bare C calling convention: raw pointers in, nothing of TVM's runtime.

Our own templates are bare from the start. Functions that come from TVM's operator library take
buffers, hold blocks and allocate scratch; here they run through TVM's scalar lowering passes, but
not through `MakePackedAPI` and `LowerTVMBuiltin`: buffer parameters become typed pointers, and
scratch that does not fit in registers moves to a workspace that the caller provides.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from offramp.backends.tvm.microkernels import Microkernel

LOCAL_BYTES = 256
"""Scratch up to this size stays a local array, which compilers put in registers."""

WORKSPACE_ALIGNMENT = 64


@dataclass(frozen=True)
class Bare:
    """One bare function: pointers only, scratch through a last `void *` if `workspace` is not 0.

    dtypes: NumPy element types of the pointers, workspace excluded. extended: the same function
    for the target's extension, or None. microkernels: C functions that it calls.
    """

    function: Any
    dtypes: tuple[str, ...]
    workspace: int = 0
    extended: Any | None = None
    microkernels: tuple[Microkernel, ...] = ()


def bare(function: Any) -> Bare:
    """Lower a scheduled PrimFunc over static buffers to the bare convention."""
    import tvm
    from tvm import tirx

    lowered = _passes()(tvm.IRModule({"kernel": function}))["kernel"]
    pointers, declarations, dtypes = [], [], []
    for buffer in lowered.params:
        dtype = str(buffer.ty.dtype)
        pointer = tirx.Var(f"{buffer.name}_data", tvm.ir.PointerType(tvm.ir.PrimType(dtype)))
        pointers.append(pointer)
        declarations.append(tirx.DeclBuffer(buffer, data=pointer))
        dtypes.append(dtype)
    workspace = _Workspace()
    body = workspace.rewrite(lowered.body)
    if workspace.bytes:
        pointers.append(workspace.pointer)
    result = tirx.PrimFunc(pointers, tirx.SeqStmt([*declarations, body]))
    return Bare(result, tuple(dtypes), workspace.bytes)


def _passes() -> Any:
    """TVM's lowering of scheduled CPU functions, up to the calling convention."""
    import tvm
    from tvm import s_tir, tirx

    return tvm.ir.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.BF16ComputeLegalize(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.StorageRewrite(),
            s_tir.transform.HoistIfThenElse(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            tirx.transform.CommonSubexprElim(),
        ]
    )


class _Workspace:
    """Moves allocations to offsets of one workspace, never overlapping."""

    def __init__(self) -> None:
        import tvm
        from tvm import tirx

        self.bytes = 0
        self.pointer = tirx.Var("workspace", tvm.ir.PointerType(tvm.ir.PrimType("uint8")))

    def rewrite(self, body: Any) -> Any:
        """The body with its large allocations replaced."""
        import tvm_ffi
        from tvm import tirx

        return tvm_ffi.structural_map(body, (tirx.AllocBuffer, self._replace))

    def _replace(self, allocation: Any) -> Any:
        import tvm
        from tvm import tirx

        buffer = allocation.buffer
        dtype = tvm.DataType(buffer.dtype)
        size = prod(int(extent) for extent in buffer.shape) * dtype.lanes * -(-dtype.bits // 8)
        if size <= LOCAL_BYTES:
            return allocation
        offset = self.bytes
        self.bytes = -(-(offset + size) // WORKSPACE_ALIGNMENT) * WORKSPACE_ALIGNMENT
        address = tirx.handle_add_byte_offset(self.pointer, offset)
        kind = tvm.ir.PointerType(tvm.ir.PrimType(str(buffer.dtype)))
        return tirx.DeclBuffer(buffer, data=tirx.reinterpret(kind, address))
