"""Search over schedules and pass options (reserved: nothing is tuned yet)."""
