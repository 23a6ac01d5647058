"""CodePurify on training rows."""
