"""ONION."""
