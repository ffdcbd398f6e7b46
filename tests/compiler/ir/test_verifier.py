"""Each rule of the IR, broken once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import onnx_ir as ir
import pytest

from offramp.compiler.errors import InternalError
from offramp.compiler.ir import Block, Branch, Exit, Jump, Program, Return, Successor, Switch
from offramp.compiler.ir.clone import clone_block, clone_program
from offramp.compiler.ir.verifier import verify, violations

Break = Callable[[Program], Program]


def change(program: Program, name: str, **fields: object) -> Program:
    """`program` with some fields of one block replaced."""
    blocks = dict(program.blocks)
    blocks[name] = replace(blocks[name], **fields)  # type: ignore[arg-type]
    return replace(program, blocks=blocks)


def terminator(program: Program, name: str) -> object:
    return program.blocks[name].terminator


def test_a_right_program_passes(every_terminator: Program) -> None:
    assert violations(every_terminator) == []
    verify(every_terminator)


def test_the_error_names_program_block_and_value(every_terminator: Program) -> None:
    value = every_terminator.blocks["heavy"].graph[0].outputs[0]
    value.shape = ir.Shape(["N", 4])
    with pytest.raises(
        InternalError, match=r"program 'every' .*\n.*'heavy'.*'w' has shape \[N,4\]"
    ):
        verify(every_terminator)


def test_long_lists_are_cut(every_terminator: Program) -> None:
    for block in every_terminator.blocks.values():
        for node in block.graph:
            node.outputs[0].shape = None
    with pytest.raises(InternalError, match=r"\.\.\. and \d+ more"):
        verify(every_terminator)


def rename(program: Program) -> Program:
    return replace(program, name="no identifier")


def no_blocks(program: Program) -> Program:
    return replace(program, blocks={})


def wrong_key(program: Program) -> Program:
    return replace(
        program, blocks={("first" if k == "stem" else k): b for k, b in program.blocks.items()}
    )


def output_named_like_input(program: Program) -> Program:
    return replace(program, output_names=("x",))


def output_named_like_exit_index(program: Program) -> Program:
    return replace(program, output_names=("exit_index",))


def foreign_value(program: Program) -> Program:
    program.blocks["heavy"].graph[0].replace_input_with(0, program.blocks["gate"].parameters[0])
    return program


def foreign_operand(program: Program) -> Program:
    graph = program.blocks["heavy"].graph
    value = ir.Value(name="loose", type=graph.inputs[0].type, shape=graph.inputs[0].shape)
    graph.outputs[0] = value
    return program


def unsorted_nodes(program: Program) -> Program:
    graph = program.blocks["gate"].graph
    nodes = tuple(graph)
    graph.remove(nodes)
    graph.extend(reversed(nodes))
    return program


def duplicated_name(program: Program) -> Program:
    program.blocks["tail"].graph[0].outputs[0].name = "u"
    return program


def parameter_with_constant(program: Program) -> Program:
    program.blocks["tail"].parameters[0].const_value = ir.tensor([1.0])
    return program


def weight_of_another_shape(program: Program) -> Program:
    program.blocks["stem"].graph.initializers["scale"].shape = ir.Shape([5])
    return program


def subgraph_in_a_block(program: Program) -> Program:
    node = program.blocks["heavy"].graph[0]
    node.attributes.add(ir.AttrGraph("body", ir.Graph((), (), nodes=())))
    return program


def unknown_domain(program: Program) -> Program:
    program.blocks["heavy"].graph[0].domain = "com.example"
    return program


def shared_graph(program: Program) -> Program:
    return change(program, "middle", graph=program.blocks["low"].graph)


def operand_out_of_range(program: Program) -> Program:
    return change(program, "heavy", terminator=Jump(Successor("joined", (3,))))


def unknown_successor(program: Program) -> Program:
    return change(program, "heavy", terminator=Jump(Successor("nowhere", (0,))))


def backward_edge(program: Program) -> Program:
    return change(program, "tail", terminator=Jump(Successor("stem", (0,))))


def unreached_block(program: Program) -> Program:
    blocks = {"stem": program.blocks["stem"], "lost": clone_block(program.blocks["tail"], "lost")}
    return replace(program, blocks={**blocks, **program.blocks})


def too_few_arguments(program: Program) -> Program:
    exit_ = terminator(program, "stem")
    assert isinstance(exit_, Exit)
    fewer = replace(exit_, else_=Successor("gate", exit_.else_.args[:1]))
    return change(program, "stem", terminator=fewer)


def argument_of_another_shape(program: Program) -> Program:
    program.blocks["tail"].parameters[0].shape = ir.Shape([4, 1])
    return program


def argument_of_another_type(program: Program) -> Program:
    program.blocks["tail"].parameters[0].type = ir.TensorType(ir.DataType.FLOAT16)
    return program


def wide_score(program: Program) -> Program:
    exit_ = terminator(program, "stem")
    assert isinstance(exit_, Exit)
    return change(program, "stem", terminator=replace(exit_, score=exit_.values[0]))


def threshold_not_a_number(program: Program) -> Program:
    exit_ = terminator(program, "stem")
    assert isinstance(exit_, Exit)
    return change(program, "stem", terminator=replace(exit_, threshold=math.nan))


def wide_confidence(program: Program) -> Program:
    return change(program, "tail", terminator=Return((0,), 0))


def condition_that_is_no_boolean(program: Program) -> Program:
    branch = terminator(program, "gate")
    assert isinstance(branch, Branch)
    return change(program, "gate", terminator=replace(branch, when=branch.then.args[0]))


def index_that_is_no_integer(program: Program) -> Program:
    switch = terminator(program, "joined")
    assert isinstance(switch, Switch)
    return change(program, "joined", terminator=replace(switch, index=switch.cases[0].args[0]))


def switch_of_one_case(program: Program) -> Program:
    switch = terminator(program, "joined")
    assert isinstance(switch, Switch)
    program = change(program, "joined", terminator=replace(switch, cases=switch.cases[2:]))
    return replace(
        program, blocks={k: b for k, b in program.blocks.items() if k not in ("low", "middle")}
    )


def answers_of_another_count(program: Program) -> Program:
    return replace(program, output_names=("out", "more"))


def answer_inside_a_region(program: Program) -> Program:
    return change(program, "heavy", terminator=Return((0,)))


def jump_out_of_a_region(program: Program) -> Program:
    return change(program, "low", terminator=Jump(Successor("tail", (0,))))


def empty_join(program: Program) -> Program:
    block = program.blocks["last"]
    constant = ir.Value(
        name="c",
        type=block.parameters[0].type,
        shape=block.parameters[0].shape,
        const_value=ir.tensor([[1.0, 2.0, 3.0, 4.0]], ir.DataType.FLOAT),
    )
    block.graph[0].replace_input_with(0, constant)
    block.graph.inputs.clear()
    block.graph.register_initializer(constant)
    switch = terminator(program, "joined")
    assert isinstance(switch, Switch)
    cases = tuple(replace(c, args=() if c.block == "last" else c.args) for c in switch.cases)
    program = change(program, "joined", terminator=replace(switch, cases=cases))
    for name in ("low", "middle"):
        program = change(program, name, terminator=Jump(Successor("last")))
    return program


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (rename, "'no identifier' is no identifier"),
        (no_blocks, "there are no blocks"),
        (wrong_key, "block 'stem' is registered as 'first'"),
        (output_named_like_input, "must be distinct"),
        (output_named_like_exit_index, "must be distinct"),
        (foreign_value, r"reads 'p', a value of another block"),
        (foreign_operand, r"operand 0 is 'loose', a value of another block"),
        (unsorted_nodes, "a value of a later node"),
        (duplicated_name, "redefines the name 'u'"),
        (parameter_with_constant, "parameter 'u' has a constant value"),
        (weight_of_another_shape, r"initializer 'scale' is FLOAT \[5\], its data"),
        (subgraph_in_a_block, "contains a graph"),
        (unknown_domain, "of a domain that the program does not import"),
        (shared_graph, "blocks 'low' and 'middle' share one graph"),
        (operand_out_of_range, r"has 1 operands, its terminator reads \[3\]"),
        (unknown_successor, "leads to 'nowhere', which does not exist"),
        (backward_edge, "leads back to 'stem'"),
        (unreached_block, "block 'lost' is never reached"),
        (too_few_arguments, "1 arguments for 2 parameters"),
        (
            argument_of_another_shape,
            r"argument 't' is FLOAT\[1, 4\], parameter 'u' is FLOAT\[4, 1\]",
        ),
        (argument_of_another_type, r"parameter 'u' is FLOAT16\[1, 4\]"),
        (wide_score, "the score 'y' is .* expected one element"),
        (threshold_not_a_number, "the threshold is not a number"),
        (wide_confidence, "the confidence 'o' is"),
        (condition_that_is_no_boolean, "the condition 'm' is .* of BOOL"),
        (index_that_is_no_integer, "the index 'z' is .* of INT64 or INT32"),
        (switch_of_one_case, "a switch needs two cases or more, found 1"),
        (answers_of_another_count, "block 'stem' answers 1 of 2 outputs"),
        (answer_inside_a_region, "never join|holds an answer"),
        (jump_out_of_a_region, "block 'tail' is entered from|entered from outside|no join"),
        (empty_join, "'last' has no parameters"),
    ],
)
def test_broken_rule(every_terminator: Program, break_it: Break, message: str) -> None:
    with pytest.raises(InternalError, match=message):
        verify(break_it(clone_program(every_terminator)))


def test_answers_must_agree_in_shape(every_terminator: Program) -> None:
    program = clone_program(every_terminator)
    tail: Block = program.blocks["tail"]
    square_root = tail.graph[0]
    square_root.outputs[0].shape = ir.Shape([4])
    with pytest.raises(InternalError, match=r"block 'tail' answers \['FLOAT\[4\]'\], other blocks"):
        verify(program)
