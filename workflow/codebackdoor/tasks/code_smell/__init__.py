"""Code smells: does the name of a function, or a comment on it, say something that it does not do?"""
