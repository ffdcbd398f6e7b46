"""Read models into Programs: one module per source format."""
