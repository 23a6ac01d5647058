"""DBS: trigger inversion by dynamic bound scaling (Shen et al. 2022)."""
