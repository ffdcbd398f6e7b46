"""Kernel templates: one TIR function a structure, tiled for the registers of the target."""
