"""OSeqL."""
