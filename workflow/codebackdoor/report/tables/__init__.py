"""The tables: ``results`` arranges that of an experiment, and each further module builds the listing of its name."""
