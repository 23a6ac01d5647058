"""Generalized cross entropy."""
