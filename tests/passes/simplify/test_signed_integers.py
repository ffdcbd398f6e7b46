from __future__ import annotations

import numpy as np
import pytest

from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes.simplify import SignedIntegers

PAIR = """program pair opset 21 batched -> (y) entry(%x: float[1,4]):
    weight %s: float[] = [0.5]
    {constants}
    %q: uint8[1,4] = QuantizeLinear(%x, %s{zero})
    %y: float[1,4] = DequantizeLinear(%q, %s{zero})
    return (%y)"""

ZERO = PAIR.format(constants="weight %z: uint8[] = [3]", zero=", %z")
NO_ZERO = PAIR.format(constants="weight %unused: uint8[] = [0]", zero="")

X = np.array([[-2.0, 0.25, 1.75, 1e9], [-70.0, -1.0, 60.2, 0.75]], np.float32)


@pytest.mark.parametrize(
    ("text", "signed"),
    [(ZERO, "INT8"), (NO_ZERO, "INT8"), (ZERO.replace("uint8", "uint16"), "INT16")],
)
def test_real_numbers_stay_what_they_are(text: str, signed: str) -> None:
    program = from_text(text)
    rewritten = SignedIntegers()(program)
    (before,), (after,) = (Oracle(p).run({"x": X}).outputs.values() for p in (program, rewritten))
    np.testing.assert_array_equal(after, before)
    kinds = {str(n.op_type): n.outputs[0].dtype for n in rewritten.entry.graph}
    assert str(kinds["QuantizeLinear"]) == signed


def test_integers_that_others_read_stay_unsigned() -> None:
    text = ZERO.replace("-> (y)", "-> (y, q)").replace("return (%y)", "return (%y, %q)")
    program = from_text(text)
    assert not SignedIntegers().call(program).modified
