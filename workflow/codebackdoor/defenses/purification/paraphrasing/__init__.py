"""Paraphrasing."""
