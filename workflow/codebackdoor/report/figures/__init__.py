"""The figures: each module draws one kind, in the one style of ``style``."""
