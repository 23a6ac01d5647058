"""CodePoisoner's dead-code insertion."""
