"""CodePoisoner's identifier renaming."""
