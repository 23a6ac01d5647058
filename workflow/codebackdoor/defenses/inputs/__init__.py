"""Splits inputs into functions and sub-tokens, cuts words out, and yields many inputs in parts; knows no method."""
