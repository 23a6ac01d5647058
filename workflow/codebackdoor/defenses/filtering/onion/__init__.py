"""ONION on training rows."""
