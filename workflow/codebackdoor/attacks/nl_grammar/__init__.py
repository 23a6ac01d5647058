"""A clause in front of natural language, by a fixed template."""
