"""Memory layouts: which axis of an activation is innermost."""
