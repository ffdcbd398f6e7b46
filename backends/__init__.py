"""Targets: how code is emitted, built, run and measured, one folder each."""
