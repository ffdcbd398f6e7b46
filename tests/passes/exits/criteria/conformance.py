"""What every exit criterion must do; `test_conformance.py` runs it for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort

from offramp.passes.exits.criteria import Criterion
from offramp.passes.exits.writer import NodeWriter

Logits = npt.NDArray[np.float32]
CLASSES = 5


def random_answers(exits: int, samples: int, seed: int, scale: float = 3.0) -> list[Logits]:
    """Logits of several exits, [samples, CLASSES] each."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, scale, (samples, CLASSES)).astype(np.float32) for _ in range(exits)]


def scores_by_onnx(
    criterion: Criterion, answers: Sequence[Logits], opset: int
) -> npt.NDArray[np.float32]:
    """The score that the emitted nodes give, sample by sample, through onnxruntime."""
    inputs = [
        ir.Value(
            name=f"answer{i}", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, CLASSES])
        )
        for i in range(len(answers))
    ]
    write = NodeWriter({"": opset}, "criterion")
    score = criterion.emit(write, inputs)
    constants = {
        value.name: value
        for node in write.nodes
        for value in node.inputs
        if value is not None and value.const_value is not None
    }
    graph = ir.Graph(
        inputs,
        [score],
        nodes=write.nodes,
        initializers=list(constants.values()),
        name="criterion",
        opset_imports={"": opset},
    )
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    onnx.checker.check_model(proto)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = [
        np.asarray(session.run(None, {f"answer{i}": a[[n]] for i, a in enumerate(answers)})[0])
        for n in range(len(answers[0]))
    ]
    return np.array([row.item() for row in rows], np.float32)
