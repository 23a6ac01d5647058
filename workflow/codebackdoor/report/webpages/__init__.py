"""Pages of an experiment that stand for themselves: HTML without external resources."""
