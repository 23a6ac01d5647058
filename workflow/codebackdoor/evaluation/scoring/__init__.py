"""One scorer for each kind of prediction; ``heads.HEADS`` names a head's."""
