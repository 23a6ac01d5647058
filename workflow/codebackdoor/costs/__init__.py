"""Estimates of a run's cost before it begins: from measurements at local scale, computed for hub checkpoints."""
