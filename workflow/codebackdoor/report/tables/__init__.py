"""The tables: ``results`` builds the result table of an experiment, other modules the listing of the same name."""
