"""Answers to "how long and how many bytes" for a kernel, block or Program on a target."""
