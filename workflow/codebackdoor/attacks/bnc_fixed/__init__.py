"""BNC with a fixed trigger."""
