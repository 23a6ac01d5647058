"""Spectral Signature."""
