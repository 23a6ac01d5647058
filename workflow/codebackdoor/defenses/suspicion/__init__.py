"""CodePurify's suspicion scores: how much a victim's prediction depends on each element of an input."""
