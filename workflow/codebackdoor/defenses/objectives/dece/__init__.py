"""Deceptive cross entropy."""
