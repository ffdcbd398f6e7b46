"""The manifest of an artifact: everything a reader may want to know, as plain data.

The schema is the set of dataclasses below; `manifest.json` is `Manifest` written as JSON, and
reading checks every key and type, so that a damaged or foreign file is refused with its reason.
Percentages (accuracy drops, budgets, bounds) are in points, rates are fractions in [0, 1].
"""

from __future__ import annotations

import json
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from offramp.compiler.errors import UserError

SCHEMA = 3
"""Version of this schema; a manifest of another version is refused."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `shape` includes the batch axis as 1; `meaning` is for people."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True)
class CostEntry:
    """What one inference costs: multiply-accumulates, and the target's own unit by prediction."""

    macs: float
    value: float
    unit: str


@dataclass(frozen=True)
class ExitEntry:
    """One place where samples leave; the last entry is the final output.

    threshold: leave if score >= threshold; None for the final output, as is `criterion`.
    rate: fraction of the selection samples that leave here.
    macs: spent by a sample that leaves here, heads on its way included.
    accuracy: of those that leave here (agreement with the full network, without labels).
    """

    block: str
    criterion: str | None
    threshold: float | None
    rate: float
    macs: int
    value: float
    accuracy: float | None = None


@dataclass(frozen=True)
class CertificateEntry:
    """`risk` ("drop" or "flip") is at most `bound` <= `budget` points with `confidence`.

    samples: calibration samples that the statement rests on; they chose nothing.
    reference: what the risk compares with ("labels" or "agreement" with the full network).
    """

    risk: str
    budget: float
    confidence: float
    bound: float
    samples: int
    reference: str = "labels"


@dataclass(frozen=True)
class CandidateEntry:
    """An exit that was considered: where, with which head, at which price, and the verdict."""

    block: str
    head: str
    macs: int
    chosen: bool
    why: str


@dataclass(frozen=True)
class BlockEntry:
    """Static costs of one block, once it is reached.

    reach: probability that a sample reaches it, if measured. value: predicted, in the cost's unit.
    """

    name: str
    reach: float | None
    macs: int
    parameters: int
    activation_bytes: int
    value: float


@dataclass(frozen=True)
class CurvePoint:
    """One policy on the accuracy-cost curve.

    drop: points lost on the certification samples. bound: what can be certified for it, if known.
    macs: expected, per sample.
    """

    label: str
    macs: float
    drop: float
    bound: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class MemoryEntry:
    """One buffer of the arena: `size` bytes at `offset`, alive in steps `first` to `last`."""

    name: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class BankEntry:
    """What lies in one memory of a board: `arena` bytes of activations from the offset `start` on,
    and `weights` bytes of copies.
    """

    memory: str
    start: int
    arena: int
    weights: int


@dataclass(frozen=True)
class AccessEntry:
    """Cycles that loads and stores of one inference take, and what no choice of memories undercuts.

    Expected, where words that are in no cache take as long as the board's description says.
    """

    cycles: float
    lower_bound: float
    status: str


@dataclass(frozen=True)
class MemoryMap:
    """The arena over time; steps are kernel calls in order, `steps` their labels.

    banks, access: where the network was compiled for the memories of a board.
    """

    peak: int
    lower_bound: int
    status: str
    steps: tuple[str, ...]
    buffers: tuple[MemoryEntry, ...]
    banks: tuple[BankEntry, ...] = ()
    access: AccessEntry | None = None


@dataclass(frozen=True)
class PatchEntry:
    """The layers up to the tensor `end` are computed in `bands` bands of rows.

    macs: by which part the multiply-accumulates of the first block grew. arena, arena_before:
    bytes, with the bands and without.
    """

    end: str
    bands: int
    macs: float
    arena: int
    arena_before: int


@dataclass(frozen=True)
class RealLayer:
    """A quantised layer, by the name of its result, that is computed on real numbers, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """All of `manifest.json`.

    exits: at least the final output. certificate: None with a `reason` where nothing was certified.
    provenance: versions, seed, options and SHA-256 of the inputs, by name.
    files: SHA-256 of every file of the folder except the manifest, by relative path.
    """

    name: str
    target: str
    batched: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    static_cost: CostEntry
    expected_cost: CostEntry
    exits: tuple[ExitEntry, ...]
    certificate: CertificateEntry | None
    reason: str | None
    memory: MemoryMap
    blocks: tuple[BlockEntry, ...] = ()
    candidates: tuple[CandidateEntry, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    patches: PatchEntry | None = None
    real_layers: tuple[RealLayer, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


def to_json(manifest: Manifest) -> str:
    """The manifest as indented JSON text, ending in a newline."""
    return json.dumps(asdict(manifest), indent=1, allow_nan=False) + "\n"


def from_json(text: str) -> Manifest:
    """Read a manifest back.

    Raises:
        UserError: the text is not JSON, of another schema version, or not of this schema.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"manifest.json is not valid JSON: {error}") from error
    version = data.get("schema") if isinstance(data, dict) else None
    if version != SCHEMA:
        raise UserError(
            f"manifest.json has schema version {version!r}, this offramp reads version {SCHEMA}: "
            "compile the model again, or use the offramp version that wrote the artifact"
        )
    manifest: Manifest = _decode(Manifest, data, "manifest")
    return manifest


def _decode(kind: Any, data: Any, where: str) -> Any:
    """`data` as type `kind`; `where` is the path in the document, for messages."""
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _decode_dataclass(kind, data, where)
    if origin in (Union, types.UnionType):
        return _decode_optional(kind, data, where)
    if origin is tuple and isinstance(data, list):
        item = get_args(kind)[0]
        return tuple(_decode(item, entry, f"{where}[{i}]") for i, entry in enumerate(data))
    if origin is dict and isinstance(data, dict):
        item = get_args(kind)[1]
        return {str(key): _decode(item, entry, f"{where}.{key}") for key, entry in data.items()}
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if isinstance(kind, type) and type(data) is kind:
        return data
    expected = getattr(origin or kind, "__name__", str(kind))
    raise UserError(f"manifest.json: {where} should be {expected}, found {data!r}")


def _decode_optional(kind: Any, data: Any, where: str) -> Any:
    if data is None:
        return None
    (inner,) = (option for option in get_args(kind) if option is not type(None))
    return _decode(inner, data, where)


def _decode_dataclass(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise UserError(f"manifest.json: {where} should be an object, found {data!r}")
    names = {f.name for f in fields(kind)}
    if set(data) != names:
        odd = ", ".join(sorted(names.symmetric_difference(data)))
        raise UserError(f"manifest.json: {where} has missing or unknown keys: {odd}")
    hints = get_type_hints(kind)
    return kind(
        **{key: _decode(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    )
