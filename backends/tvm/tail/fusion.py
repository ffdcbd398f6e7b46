"""Relax passes that turn imported nodes into few fused PrimFuncs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from offramp.backends.tvm.tail.importer import Imported
from offramp.backends.tvm.tail.untyped import ir, relax

_MARK = re.compile(r"^n(\d+)_")


@dataclass(frozen=True)
class Fused:
    """A Relax module whose `main` only calls PrimFuncs, reshapes and takes tuples apart.

    nodes: the ONNX nodes computed by each PrimFunc, by the function's name.
    """

    module: Any
    nodes: dict[str, tuple[str, ...]]


def fuse(imported: Imported) -> Fused:
    """Legalise, fold constants and fuse producers into consumers."""
    module = relax.transform.LegalizeOps()(imported.module)
    module, node_of = _one_function_per_call(module, imported.node_names)
    for transform in (
        relax.transform.CanonicalizeBindings(),
        relax.transform.FoldConstant(),
        relax.transform.DeadCodeElimination(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FuseOps(),
    ):
        module = transform(module)
    nodes = {name: (node,) for name, node in node_of.items()} | _groups(module, node_of)
    for transform in (
        relax.transform.FuseTIR(),
        relax.transform.RewriteDataflowReshape(),
        relax.transform.DeadCodeElimination(),
    ):
        module = transform(module)
    return Fused(module, nodes)


def _one_function_per_call(module: Any, names: tuple[str, ...]) -> tuple[Any, dict[str, str]]:
    """Give every `call_tir` a PrimFunc of its own, so that its name tells the ONNX node."""
    from tvm.relax.expr_functor import PyExprMutator, mutator

    owners = iter(_owners(module["main"], names))
    node_of: dict[str, str] = {}

    @mutator
    class Separate(PyExprMutator):  # type: ignore[misc]  # tvm ships no types
        def visit_call_(self, op: Any) -> Any:
            if not is_call_tir(op):
                return op
            original = module[op.args[0]]
            function = self.builder_.add_func(
                original.with_attr("separated", len(node_of)), op.args[0].name_hint
            )
            node_of[function.name_hint] = next(owners)
            return relax.Call(op.op, [function, *op.args[1:]], op.attrs, op.ty_args)

    separate: Any = Separate(module)
    separate.builder_.update_func(
        module.get_global_var("main"), separate.visit_expr(module["main"])
    )
    return separate.builder_.get(), node_of


def is_call_tir(value: Any) -> bool:
    """Whether a Relax expression calls a PrimFunc that writes into fresh outputs."""
    return isinstance(value, relax.Call) and value.op == ir.Op.get("relax.call_tir")


def _owners(main: Any, names: tuple[str, ...]) -> list[str]:
    """The ONNX node of every `call_tir` of `main`, in order."""
    owners: list[str] = []
    calls = 0
    for block in main.body.blocks:
        for binding in block.bindings:
            calls += is_call_tir(binding.value)
            mark = _MARK.match(binding.var.name)
            if mark:
                owners += [names[int(mark[1])]] * (calls - len(owners))
    return owners + [names[-1]] * (calls - len(owners)) if names else owners


def _groups(module: Any, node_of: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The ONNX nodes of every function that FuseOps made."""
    groups: dict[str, tuple[str, ...]] = {}
    for variable, function in module.functions.items():
        if isinstance(function, relax.Function) and variable.name_hint != "main":
            calls = [
                binding.value.args[0].name_hint
                for block in function.body.blocks
                for binding in block.bindings
                if is_call_tir(binding.value)
            ]
            groups[variable.name_hint] = tuple(dict.fromkeys(node_of[c] for c in calls))
    return groups
