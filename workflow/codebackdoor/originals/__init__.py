"""Published data sets and checkpoints: where they come from, how they are fetched, and who reads them."""
