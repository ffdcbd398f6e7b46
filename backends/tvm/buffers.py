"""The buffers of a plan while it is being made."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.plan import Buffer, Storage
from offramp.passes.layout import rules


class BufferTable:
    """Gives every value a buffer; names are `block.value`, constants are stored once."""

    def __init__(self) -> None:
        self.buffers: dict[str, Buffer] = {}
        self._constants: dict[tuple[str, tuple[int, ...], str], str] = {}
        self._values: dict[ir.Value, str] = {}
        self._reserved: dict[ir.Value, tuple[str, int]] = {}

    def name(self, value: ir.Value) -> str:
        """The buffer of a value; a constant gets its buffer when it is first asked for."""
        if value not in self._values and value.const_value is not None:
            self._values[value] = self.constant(value.const_value.numpy())
        return self._values[value]

    def assign(self, value: ir.Value, name: str) -> str:
        """Let a value live in the buffer `name`."""
        self._values[value] = name
        return name

    def root(self, name: str) -> str:
        """The buffer whose memory `name` uses."""
        return self.buffers[name].alias_of or name

    def arena(self, block: str, value: ir.Value) -> str:
        """A new buffer in the arena for a value, or the place that is reserved for it."""
        if value in self._reserved:
            return self.view(block, value, *self._reserved[value])
        dtype = "float32" if value.dtype is None else value.dtype.numpy().name
        shape = rules.static_shape(value)
        return self.assign(value, self.add(f"{block}.{value.name}", shape, dtype))

    def view(self, block: str, value: ir.Value, source: str, offset: int = 0) -> str:
        """A new buffer for a value that has the bytes of `source`, from `offset` on."""
        shape = rules.static_shape(value)
        return self.assign(value, self.add_view(f"{block}.{value.name}", shape, source, offset))

    def reserve(self, value: ir.Value, whole: str, offset: int) -> None:
        """Let `arena` give a value its place in the buffer `whole`."""
        self._reserved[value] = whole, offset

    def add(self, name: str, shape: tuple[int, ...], dtype: str) -> str:
        """A new buffer in the arena, named `name` or nearly so."""
        return self._insert(Buffer(name, shape, dtype))

    def add_view(self, name: str, shape: tuple[int, ...], source: str, offset: int = 0) -> str:
        """A new buffer that has the bytes of `source` from `offset` on, named so or nearly so."""
        root = self.buffers[self.root(source)]
        view = Buffer(
            name,
            shape,
            root.dtype,
            root.storage,
            alias_of=root.name,
            offset=self.buffers[source].offset + offset,
        )
        return self._insert(view)

    def constant(self, data: npt.NDArray[Any]) -> str:
        """The buffer of a constant; equal contents share one."""
        data = np.ascontiguousarray(data)
        key = (data.dtype.name, data.shape, hashlib.sha256(data.tobytes()).hexdigest())
        if key not in self._constants:
            name = f"constant.{len(self._constants)}"
            self._constants[key] = name
            self.buffers[name] = Buffer(name, data.shape, data.dtype.name, Storage.CONSTANT, data)
        return self._constants[key]

    def _insert(self, buffer: Buffer) -> str:
        unique, number = buffer.name, 1
        while unique in self.buffers:
            number += 1
            unique = f"{buffer.name}.{number}"
        self.buffers[unique] = replace(buffer, name=unique)
        return unique
