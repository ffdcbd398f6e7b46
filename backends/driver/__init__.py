"""The generated C driver shared by all bare targets: control flow, arena, and the C API."""
