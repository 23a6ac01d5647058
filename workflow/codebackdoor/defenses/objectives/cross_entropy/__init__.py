"""Cross entropy, the undefended loss."""
