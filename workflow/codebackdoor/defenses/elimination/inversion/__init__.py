"""What the methods that invert a trigger share: samples, positions, vocabulary, losses, search and unlearning."""
