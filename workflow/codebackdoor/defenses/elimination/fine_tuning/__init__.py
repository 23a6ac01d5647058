"""Clean fine-tuning: EliBadCode's control."""
