"""The functions of `import codebackdoor`: scan a checkpoint, clean one, sanitize source code, load a run."""
