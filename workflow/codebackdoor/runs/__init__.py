"""The mechanics of running a study: jobs, Snakemake's records, provenance."""
