"""The commands of the command line, grouped by their outputs; libraries are imported only when a command runs."""
