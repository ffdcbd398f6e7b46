"""ONNX operators on torch tensors, one small function each; `table.OPERATORS` finds them."""
