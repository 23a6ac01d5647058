"""From metrics to what people read: tables, figures, captions and the report, next to the papers' values."""
