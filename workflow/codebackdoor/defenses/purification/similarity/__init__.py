"""EliBadCode's similarity filter."""
