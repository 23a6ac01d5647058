"""From metrics to what people read: tables, figures, captions and the report, beside the papers' own values."""
