"""The local corpus: functions mined from pinned Python distributions."""
