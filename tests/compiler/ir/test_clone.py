from __future__ import annotations

from offramp.compiler.ir import Program
from offramp.compiler.ir.clone import clone_block, clone_program
from offramp.compiler.ir.fingerprint import fingerprint
from offramp.compiler.ir.text import to_text
from offramp.compiler.ir.verifier import violations


def test_clone_is_equal_and_shares_tensors_but_no_values(every_terminator: Program) -> None:
    copy = clone_program(every_terminator)

    assert violations(copy) == []
    assert to_text(copy) == to_text(every_terminator)
    for name, block in copy.blocks.items():
        original = every_terminator.blocks[name]
        values = {*original.graph.inputs, *original.graph.initializers.values()}
        values.update(value for node in original.graph for value in node.outputs)
        cloned = {*block.graph.inputs, *block.graph.initializers.values()}
        cloned.update(value for node in block.graph for value in node.outputs)
        assert not values & cloned
        for key, weight in block.graph.initializers.items():
            assert weight.const_value is original.graph.initializers[key].const_value


def test_changing_the_clone_leaves_the_original(every_terminator: Program) -> None:
    before = fingerprint(every_terminator)
    copy = clone_program(every_terminator)
    copy.blocks["heavy"].graph[0].op_type = "Relu"
    copy.opset_imports["x"] = 1
    del copy.blocks["tail"]
    assert fingerprint(every_terminator) == before


def test_clone_of_a_block_may_be_renamed(every_terminator: Program) -> None:
    copy = clone_block(every_terminator.blocks["heavy"], "light")
    assert (copy.name, copy.terminator) == ("light", every_terminator.blocks["heavy"].terminator)
