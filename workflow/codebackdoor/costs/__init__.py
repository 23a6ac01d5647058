"""What a run costs, before it begins: measured at local scale, computed for hub checkpoints."""
