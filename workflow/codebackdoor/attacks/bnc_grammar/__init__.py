"""BNC with triggers drawn from a grammar."""
