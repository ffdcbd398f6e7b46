"""Ground floor: the IR, front ends, plan types, targets, artifact format and errors."""
