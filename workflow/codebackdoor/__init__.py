"""A reproducible study of backdoors in neural code models.

Where a docstring names a row of the ledger (A2, E7, P5, D4), that is docs/fidelity.md: what a paper says, what its code
does, and what is done here.
"""

__version__ = "0.1.0"
