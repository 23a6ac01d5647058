"""Clone detection: do two functions do the same?"""
