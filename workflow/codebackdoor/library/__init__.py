"""What `import codebackdoor` offers: scan a checkpoint, clean one, load the results of a run."""
