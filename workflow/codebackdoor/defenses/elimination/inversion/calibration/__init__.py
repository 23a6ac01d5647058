"""Calibration of a label scan: what benign victims reach in the same search, so that a verdict can also be "clean"."""
