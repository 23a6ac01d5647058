"""The commands of the command line, by what they make; libraries are imported inside them, when they run."""
