"""BadPre: several rare words in natural language."""
