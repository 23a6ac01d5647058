"""CodePurify."""
