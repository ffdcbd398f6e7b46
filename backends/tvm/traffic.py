"""How many bytes kernels move: what a choice of memories for their arguments is judged by.

A convolution is a product of matrices in tiles: each tile of outputs reads all weights again, and
the inputs gathered for it once for every block of filters. Operators that are not described here
pass over each of their arguments once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offramp.backends.tvm.integer.channelwise import Depthwise
from offramp.backends.tvm.integer.conv import IntegerConv
from offramp.backends.tvm.integer.dual_plane import DualPlane
from offramp.backends.tvm.integer.helium_conv import HeliumConv
from offramp.backends.tvm.integer.helium_depthwise import HeliumDepthwise
from offramp.backends.tvm.integer.paired_conv import PairedConv
from offramp.backends.tvm.integer.strips import Strips
from offramp.backends.tvm.selection import Spec
from offramp.backends.tvm.templates.tiled_conv import TiledConv
from offramp.backends.tvm.templates.tiled_depthwise import TiledDepthwise

Gathering = IntegerConv | HeliumConv | PairedConv
PerChannel = Depthwise | DualPlane | Strips | TiledDepthwise


@dataclass(frozen=True)
class _Passes:
    """How often a kernel reads its weights and the tables that follow them, and how many bytes of
    its input and its workspace it moves.
    """

    weights: float
    tables: float
    input: float
    workspace: float = 0


def traffic(
    spec: Spec, sizes: Sequence[int], constants: Sequence[bool], *, workspace: bool
) -> tuple[int, ...]:
    """Bytes loaded and stored, by argument, and those of the workspace last, if there is one.

    sizes: bytes of the arguments: the input first, the output last. constants: which of them are
    weights and tables. Empty if each argument is passed over once.
    """
    passes = _passes(spec, sizes[0])
    if passes is None:
        return ()
    moved: list[float] = [passes.input, *sizes[1:]]
    for order, position in enumerate(p for p, is_constant in enumerate(constants) if is_constant):
        moved[position] *= passes.weights if order == 0 else passes.tables
    return tuple(map(round, [*moved, passes.workspace] if workspace else moved))


def _passes(spec: Spec, input_bytes: int) -> _Passes | None:
    match spec:
        case IntegerConv() | HeliumConv() | PairedConv() | TiledConv():
            return _as_matrix(spec, input_bytes)
        case DualPlane() | Strips() | Depthwise() | TiledDepthwise():
            return _per_channel(spec, input_bytes)
        case _:
            return None


def _as_matrix(spec: Gathering | TiledConv, input_bytes: int) -> _Passes:
    if isinstance(spec, PairedConv):
        return _gathering(spec, spec.steps * 2, spec.filters)
    blocks = sum(count for _, count, _ in spec.blocks())
    match spec:
        case IntegerConv():
            return _gathering(spec, spec.steps * 2, blocks)
        case HeliumConv(is_direct=True):
            return _Passes(1, 1, input_bytes * blocks)
        case HeliumConv():
            return _gathering(spec, spec.steps, blocks, together=2)
        case TiledConv():
            tiles = _rows(spec) * -(-spec.window.columns.out // spec.pixels)
            return _Passes(tiles, tiles, 4 * _taps_read(spec) * blocks)


def _per_channel(spec: PerChannel, input_bytes: int) -> _Passes:
    match spec:
        case DualPlane() | Strips():
            copied = spec.window.inputs * spec.channels
            return _Passes(1, 1, input_bytes, copied + _bytes_read(spec))
        case Depthwise():
            together = spec.together if isinstance(spec, HeliumDepthwise) else 1
            vectors = spec.window.outputs / together
            return _Passes(vectors, vectors, _bytes_read(spec))
        case TiledDepthwise():
            return _Passes(spec.window.outputs, spec.window.outputs, 4 * _taps_read(spec))


def _gathering(spec: Gathering, gathered: int, blocks: int, together: int = 0) -> _Passes:
    """What a convolution moves that gathers the inputs of a tile in its workspace.

    gathered: bytes of the inputs of one output. blocks: how often they are read. together: outputs
    of a tile that share a pass over the weights, if not all do.
    """
    tiles = _rows(spec) * sum(count for _, count, _ in spec.tiles())
    passes = tiles
    if together:
        passes = _rows(spec) * sum(count * -(-n // together) for _, count, n in spec.tiles())
    workspace = spec.window.outputs * gathered * (1 + blocks)
    return _Passes(passes, tiles, _bytes_read(spec), workspace)


def _rows(spec: Gathering | TiledConv) -> int:
    return spec.window.batch * spec.window.rows.out


def _taps_read(spec: Gathering | TiledConv | PerChannel) -> int:
    """Inputs that all outputs read for one filter, borders included."""
    return spec.window.outputs * spec.window.taps * spec.channels


def _bytes_read(spec: Gathering | Depthwise | DualPlane | Strips) -> int:
    """The same in bytes of integers."""
    return _taps_read(spec) * spec.source_bits // 8
