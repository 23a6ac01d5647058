"""Backdoor keyword identification."""
