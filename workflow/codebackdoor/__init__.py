"""A reproducible study of backdoors in neural code models."""

__version__ = "0.1.0"
