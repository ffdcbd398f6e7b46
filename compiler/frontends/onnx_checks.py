"""Structural checks of an ONNX model that give one clear message before any library sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from offramp.compiler.errors import UnsupportedError, UserError

STANDARD = ("", "ai.onnx")
OLDEST_OPSET = 13
NEWEST_OPSET = 26
"""The newest that onnxruntime 1.31 runs."""
MAX_NODES = 1_000_000
"""Nodes after functions are inlined."""


def opset(model: Any) -> int:
    """Version of the standard operator set that the model imports; the newest if it imports none.

    Raises:
        UserError: it imports one that the installed onnx does not know.
    """
    import onnx

    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        return NEWEST_OPSET
    if not 1 <= versions[0] <= newest:
        raise UserError(
            f"the model imports ONNX opset {versions[0]}; known are 1 to {newest}: export it with "
            f"an opset from {OLDEST_OPSET} to {NEWEST_OPSET}"
        )
    return int(versions[0])


def same_meaning(graph: Any, version: int, other: int) -> bool:
    """Whether no operator of `graph` changed between two opset versions."""
    import onnx

    for node in graph.node:
        if not onnx.defs.has(node.op_type, other, ""):
            return False
        schemas = [onnx.defs.get_schema(node.op_type, v, "") for v in (version, other)]
        if schemas[0].since_version != schemas[1].since_version:
            return False
        if not all(same_meaning(inner, version, other) for inner in subgraphs(node)):
            return False
    return True


def check_functions(model: Any) -> None:
    """Refuse functions that call themselves or grow beyond all bounds when inlined.

    Raises:
        UserError: names the function.
    """
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], callers: tuple[tuple[str, str], ...]) -> int:
        if key in callers:
            raise UserError(f"function {key[1]!r} calls itself: ONNX functions must not recurse")
        if key not in sizes:
            inner = ((n.domain, n.op_type) for n in functions[key].node)
            sizes[key] = sum(size(k, (*callers, key)) if k in functions else 1 for k in inner)
        return sizes[key]

    calls = [(n.domain, n.op_type) for n in model.graph.node]
    total = sum(size(call, ()) if call in functions else 1 for call in calls)
    if total > MAX_NODES:
        raise UserError(f"the model's functions inline to {total} nodes, more than {MAX_NODES}")


def check_graph(graph: Any, version: int, outer: frozenset[str] = frozenset()) -> None:
    """Check names, order and operators of a graph and its subgraphs; sorts unsorted nodes.

    Args:
        graph: GraphProto without function calls.
        version: standard opset.
        outer: names visible from surrounding graphs.

    Raises:
        UserError: duplicated or undefined names, or a cycle.
        UnsupportedError: an operator outside the standard ONNX set, or quantisation to small
            floats, with its node.
    """
    _require_text(graph)
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input]
    made = [name for node in graph.node for name in node.output if name]
    _no_duplicates([t.name for t in graph.initializer], "initializer")
    _no_duplicates(inputs, "input")
    _no_duplicates([*(constants | set(inputs)), *made], "value")
    visible = outer | constants | set(inputs) | set(made)
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        _known_operator(node, version)
        _quantises_to_integers(node, types)
        for name in node.input:
            if name and name not in visible:
                raise UserError(
                    f"{_label(node)} reads {name!r}, which no input, initializer or node of the "
                    "model defines: is an initializer missing?"
                )
        for inner in subgraphs(node):
            check_graph(inner, version, visible)
    for output in graph.output:
        if output.name not in visible:
            raise UserError(f"output {output.name!r} is defined by no node of the model")
    if not graph.output:
        raise UserError("the model has no outputs")
    _sort(graph)


def check_interface(graph: Any) -> None:
    """Refuse inputs without a shape, and outputs that share names.

    Raises:
        UserError: names the input or output.
    """
    _no_duplicates((output.name for output in graph.output), "output")
    inputs = {value.name for value in graph.input}
    for output in graph.output:
        if output.name in inputs:
            raise UserError(
                f"output {output.name!r} is an input too: leave it out, or copy it by an Identity"
            )
    for value in graph.input:
        tensor = value.type.HasField("tensor_type")
        if tensor and not value.type.tensor_type.HasField("shape"):
            raise UserError(
                f"input {value.name!r} declares no shape: export the model with input shapes"
            )


def check_schema(model: Any) -> None:
    """Arity, attributes and types of every node, by onnx's own checker.

    The checker wants a shape on every output, which many exporters leave out.

    Raises:
        UserError: the first line of what it finds.
    """
    import onnx

    types = [output.type.tensor_type for output in model.graph.output]
    bare = [t for t in types if t.elem_type and not t.HasField("shape")]
    for tensor_type in bare:
        tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the model is not valid ONNX: {reason}") from error
    finally:
        for tensor_type in bare:
            tensor_type.ClearField("shape")


def subgraphs(node: Any) -> list[Any]:
    """GraphProtos among the attributes of a node."""
    single = [a.g for a in node.attribute if a.HasField("g")]
    return single + [g for a in node.attribute for g in a.graphs]


def _require_text(graph: Any) -> None:
    """Refuse names that are no text: protobuf gives bytes for what is not UTF-8."""
    named = (*graph.input, *graph.output, *graph.initializer, *graph.node)
    words = [graph.name, *(item.name for item in named)]
    for node in graph.node:
        words += [node.op_type, node.domain, *node.input, *node.output]
    for word in words:
        if not isinstance(word, str):
            raise UserError(f"the name {word!r} is no UTF-8 text: the file is damaged")


def _no_duplicates(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{what} name {name!r} is defined twice: names must be unique")
        seen.add(name)


def _known_operator(node: Any, version: int) -> None:
    import onnx

    if node.domain not in STANDARD:
        raise UnsupportedError(
            f"{_label(node)} is of the domain {node.domain!r}: only standard ONNX operators are "
            "supported; export the model without custom operators"
        )
    node.domain = ""
    if not onnx.defs.has(node.op_type, version, ""):
        raise UnsupportedError(
            f"{_label(node)} does not exist in ONNX opset {version}: fix the model's opset import "
            "or export without it"
        )
    if onnx.defs.get_schema(node.op_type, version, "").deprecated:
        raise UnsupportedError(f"{_label(node)} is deprecated in ONNX opset {version}")


def _quantises_to_integers(node: Any, types: Mapping[str, int]) -> None:
    """Refuse quantisation to floats of 4 or 8 bits, which no kernel computes."""
    from onnx import TensorProto

    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return
    asked = [a.i for a in node.attribute if a.name == "output_dtype"]
    for kind in [*(types[name] for name in node.input if name in types), *asked]:
        name = TensorProto.DataType.Name(kind)
        if name.startswith(("FLOAT8", "FLOAT4")):
            raise UnsupportedError(
                f"{_label(node)} uses {name}: quantisation is supported to integers only; quantise "
                "the model to int8"
            )


def _label(node: Any) -> str:
    name = node.name or ", ".join(node.output)
    domain = f"{node.domain}." if node.domain not in STANDARD else ""
    return f"operator {domain + node.op_type!r} (node {name!r})"


def _reads(node: Any) -> set[str]:
    """Names that a node and its subgraphs take from around it."""
    names = {name for name in node.input if name}
    for inner in subgraphs(node):
        own = {value.name for value in (*inner.input, *inner.initializer)}
        own.update(name for n in inner.node for name in n.output)
        reads = {output.name for output in inner.output}.union(*(_reads(n) for n in inner.node))
        names |= reads - own
    return names


def _sort(graph: Any) -> None:
    """Put the nodes of `graph` in topological order, if they are not."""
    maker = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = {
        i: {maker[name] for name in _reads(node) if name in maker}
        for i, node in enumerate(graph.node)
    }
    if all(i > max(before, default=-1) for i, before in needs.items()):
        return
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        cycle = ", ".join(_label(graph.node[i]) for i in error.args[1][:-1][:5])
        raise UserError(f"the graph has a cycle and cannot be computed: {cycle}") from error
    nodes = [type(graph.node[i]).FromString(graph.node[i].SerializeToString()) for i in order]
    del graph.node[:]
    graph.node.extend(nodes)
