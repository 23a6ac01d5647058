"""The In-trust loss."""
