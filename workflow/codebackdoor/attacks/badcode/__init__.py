"""BadCode."""
