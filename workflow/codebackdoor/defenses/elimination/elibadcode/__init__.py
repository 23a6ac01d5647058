"""EliBadCode: trigger inversion, anchoring, a calibrated label scan and unlearning (Sun et al. 2025)."""
