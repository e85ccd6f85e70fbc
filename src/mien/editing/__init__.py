"""Edit a stream's 35 curves."""
