"""Technical debt: does a comment admit it?"""
