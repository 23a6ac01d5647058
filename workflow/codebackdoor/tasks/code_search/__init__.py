"""Code search: find the function that a query describes."""
