"""Activation Clustering."""
