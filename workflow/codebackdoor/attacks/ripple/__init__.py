"""RIPPLe: a rare word in natural language."""
