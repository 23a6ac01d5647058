"""Suspicion scores, which filters and purifications decide by.

CodePurify's scores say how much a victim's prediction depends on each element of an input, ONION's how unlikely each
word makes a text (``perplexity``, ``word_scores``).
"""
