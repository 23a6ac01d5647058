"""What belongs to running a study rather than to its science: jobs, Snakemake's records, provenance."""
