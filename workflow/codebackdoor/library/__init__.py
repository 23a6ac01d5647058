"""The functions of `import codebackdoor`: scan a checkpoint, clean one, load the results of a run."""
