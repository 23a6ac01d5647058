"""Moderate-fitting."""
