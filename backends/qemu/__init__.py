"""Running firmware in QEMU and counting exactly what it executes."""
