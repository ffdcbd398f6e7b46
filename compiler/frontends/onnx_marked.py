"""Read back what `to_onnx` wrote: node metadata says which `If` is an Exit, Branch or Switch.

The metadata is trusted only as far as the nodes agree with it: any mismatch raises `NotWrittenByUs`
and the model is read as plain ONNX instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import onnx_ir as ir

from offramp.compiler.ir import (
    Annotations,
    Branch,
    Exit,
    Jump,
    Return,
    Successor,
    Switch,
    Terminator,
)
from offramp.compiler.ir import onnx_form as form
from offramp.compiler.ir.draft import Draft, Edge

_Finish = Callable[[tuple[int, ...], tuple[Successor, ...]], Terminator]
_OF_TERMINATOR = (None, form.EXIT, form.BRANCH, form.SWITCH, form.JUMP)


class NotWrittenByUs(Exception):  # noqa: N818 - an outcome, no error that anyone sees
    """The model's nodes are not as `to_onnx` writes them."""


def is_marked(graph: ir.Graph) -> bool:
    """Whether every node, in branches too, carries a block name."""
    nodes = tuple(graph.all_nodes())
    return bool(nodes) and all(form.BLOCK in node.metadata_props for node in nodes)


def read_marked(graph: ir.Graph) -> list[Draft]:
    """Drafts of all blocks, in topological order, the entry first.

    Raises:
        NotWrittenByUs: the nodes do not agree with their metadata.
    """
    try:
        reader = _Reader(graph)
        entry = graph[0].metadata_props[form.BLOCK]
        reader.region(graph, None, Draft(entry, [], (), (), _jump, tuple(graph.inputs)))
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise NotWrittenByUs(str(error)) from error
    return reader.drafts


def output_count(graph: ir.Graph) -> int:
    """How many of the graph's outputs are the Program's: not exit index and confidence."""
    exits = any(node.metadata_props.get(form.ROLE) == form.EXIT for node in graph.all_nodes())
    return len(graph.outputs) - 2 if exits else len(graph.outputs)


class _Reader:
    def __init__(self, graph: ir.Graph) -> None:
        self.drafts: list[Draft] = []
        self._outputs = output_count(graph)
        self._values = {str(value.name): value for value in graph.inputs}
        self._facts: dict[str, Annotations] = {}
        for inner in (graph, *graph.subgraphs()):
            self._values.update(inner.initializers)
            for node in inner:
                self._values.update({str(value.name): value for value in node.outputs})
                facts = node.metadata_props.get(form.ANNOTATIONS, "")
                self._facts[node.metadata_props[form.BLOCK]] = form.annotations_from_json(facts)

    def region(self, graph: ir.Graph, join: str | None, first: Draft) -> None:
        """The blocks of one graph from `first` on, up to the block `join` or the answer."""
        groups: dict[str, list[ir.Node]] = {}
        for node in graph:
            if node.metadata_props.get(form.ROLE) in _OF_TERMINATOR:
                groups.setdefault(node.metadata_props[form.BLOCK], []).append(node)
        draft: Draft | None = first
        while draft is not None:
            self.drafts.append(draft)
            nodes = groups.pop(draft.name, [])
            draft.nodes = [node for node in nodes if form.ROLE not in node.metadata_props]
            draft.annotations = self._facts.get(draft.name, Annotations())
            draft = self._end(
                graph, join, draft, [n for n in nodes if n not in draft.nodes], groups
            )
        _agree(not groups)

    def _end(
        self,
        graph: ir.Graph,
        join: str | None,
        draft: Draft,
        glue: list[ir.Node],
        waiting: dict[str, list[ir.Node]],
    ) -> Draft | None:
        """Give `draft` its terminator; the block that follows in the same graph, if any."""
        if glue and _role(glue[-1]) == form.JUMP:
            return _read_jump(draft, glue, join)
        if glue and _role(glue[-1]) == form.EXIT:
            _agree(tuple(glue[-1].outputs) == tuple(graph.outputs))
            self._exit(draft, glue[-1])
            return None
        if glue and _role(glue[-1]) == form.BRANCH:
            return self._branch(draft, glue[-1])
        if glue and _role(glue[-1]) == form.SWITCH:
            return self._switch(draft, glue[-1])
        if waiting:
            following = next(iter(waiting))
            draft.edges = (Edge(following),)
            return _empty(following)
        _agree(join is None)
        self._return(graph, draft)
        return None

    def _return(self, graph: ir.Graph, draft: Draft) -> None:
        values = tuple(_source(value) for value in graph.outputs[: self._outputs])
        scores = [
            node.inputs[0]
            for node in graph
            if _role(node) == form.CONFIDENCE and node.metadata_props[form.BLOCK] == draft.name
        ]
        draft.operands = (*values, *(score for score in scores if score is not None))
        draft.finish = _return_with_confidence if scores else _return
        draft.edges = ()

    def _exit(self, draft: Draft, node: ir.Node) -> None:
        then, rest = _arms(node)
        condition = _producer(node.inputs[0])
        _agree(condition.op_type == "GreaterOrEqual" and condition.inputs[0] is not None)
        values = tuple(_source(value) for value in then.outputs[: self._outputs])
        score = condition.inputs[0]
        draft.operands = (*values, score) if score is not None else values
        (following,) = _successors(node)
        draft.edges = (Edge(following),)
        threshold = float(node.metadata_props[form.THRESHOLD])
        criterion = node.metadata_props[form.CRITERION]
        draft.finish = _exit_of(threshold, criterion)
        (captured,) = self._captured(node)
        self.region(rest, None, _empty(following, captured=captured))

    def _branch(self, draft: Draft, node: ir.Node) -> Draft:
        condition = node.inputs[0]
        draft.operands = () if condition is None else (condition,)
        draft.finish = _branch_of
        return self._fork(draft, node, _arms(node))

    def _switch(self, draft: Draft, node: ir.Node) -> Draft:
        condition = _producer(node.inputs[0])
        _agree(condition.op_type == "LessOrEqual")
        draft.operands = tuple(value for value in condition.inputs[:1] if value is not None)
        draft.finish = _switch_of
        cases: list[ir.Graph] = []
        inner = node
        for _ in _successors(node)[2:]:
            then, rest = _arms(inner)
            cases.append(then)
            inner = rest[-1]
            _agree(_role(inner) == form.CASE)
        return self._fork(draft, node, (*cases, *_arms(inner)))

    def _fork(self, draft: Draft, node: ir.Node, arms: tuple[ir.Graph, ...]) -> Draft:
        join = node.metadata_props[form.JOIN]
        names = _successors(node)
        draft.edges = tuple(
            Edge(join, tuple(_source(value) for value in arm.outputs))
            if name == join
            else Edge(name)
            for name, arm in zip(names, arms, strict=True)
        )
        for name, arm, captured in zip(names, arms, self._captured(node), strict=True):
            if name != join:
                self.region(arm, join, _empty(name, captured=captured))
        return _empty(join, tuple(node.outputs))

    def _captured(self, node: ir.Node) -> list[tuple[ir.Value, ...]]:
        names = json.loads(node.metadata_props[form.ARGUMENTS])
        return [tuple(self._values[name] for name in each) for each in names]


def _read_jump(draft: Draft, glue: list[ir.Node], join: str | None) -> Draft | None:
    (following,) = _successors(glue[-1])
    passed = tuple(node.inputs[0] for node in glue if node.inputs[0] is not None)
    draft.edges = (Edge(following, passed),)
    if following == join:
        return None
    return _empty(following, tuple(node.outputs[0] for node in glue))


def _empty(
    name: str, bound: tuple[ir.Value, ...] = (), captured: tuple[ir.Value, ...] = ()
) -> Draft:
    return Draft(name, [], (), (), _jump, bound, captured)


def _agree(condition: bool) -> None:
    if not condition:
        raise ValueError("the nodes do not agree with their metadata")


def _role(node: ir.Node) -> str | None:
    return node.metadata_props.get(form.ROLE)


def _successors(node: ir.Node) -> list[str]:
    return [str(name) for name in json.loads(node.metadata_props[form.SUCCESSORS])]


def _arms(node: ir.Node) -> tuple[ir.Graph, ir.Graph]:
    then, rest = node.attributes["then_branch"], node.attributes["else_branch"]
    return then.as_graph(), rest.as_graph()


def _producer(value: ir.Value | None) -> ir.Node:
    node = None if value is None else value.producer()
    if node is None:
        raise ValueError("a condition is made by no node")
    return node


def _source(value: ir.Value) -> ir.Value:
    """The value that a written Identity stands for."""
    node = value.producer()
    if node is None or _role(node) not in (form.PASS, form.ANSWER) or node.op_type != "Identity":
        return value
    source = node.inputs[0]
    return value if source is None else source


def _jump(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Jump:
    (to,) = successors
    return Jump(to)


def _return(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Return:
    return Return(operands)


def _return_with_confidence(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Return:
    return Return(operands[:-1], operands[-1])


def _branch_of(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Branch:
    then, else_ = successors
    return Branch(operands[0], then, else_)


def _switch_of(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Switch:
    return Switch(operands[0], successors)


def _exit_of(threshold: float, criterion: str) -> _Finish:
    def finish(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Exit:
        (stay,) = successors
        return Exit(operands[:-1], operands[-1], threshold, criterion, stay)

    return finish
