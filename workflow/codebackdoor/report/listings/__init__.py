"""The further tables: each module builds one kind from result files."""
