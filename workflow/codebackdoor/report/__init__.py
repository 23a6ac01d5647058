"""The report: tables, figures and captions made from metrics, with the papers' values for comparison."""
