"""What targets without an operating system share: C sources, firmware for an emulated board."""
