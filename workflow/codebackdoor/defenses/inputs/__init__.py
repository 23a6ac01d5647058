"""The texts of an input, as filters, purifications and suspicion scores take them apart and put them together again."""
