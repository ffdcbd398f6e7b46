"""Transformations and plans of Programs, one per module."""
