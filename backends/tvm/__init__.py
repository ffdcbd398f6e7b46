"""Kernels through TVM: lowering of Programs to bare C-ABI functions, shared by all targets."""
