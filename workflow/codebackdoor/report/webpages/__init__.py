"""Self-contained HTML pages of an experiment."""
