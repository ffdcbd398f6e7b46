"""Operators between DequantizeLinear and QuantizeLinear, computed in integers."""
