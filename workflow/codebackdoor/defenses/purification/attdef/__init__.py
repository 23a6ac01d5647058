"""AttDef."""
