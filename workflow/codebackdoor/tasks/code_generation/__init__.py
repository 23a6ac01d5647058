"""Code generation: write the function that a prompt describes."""
