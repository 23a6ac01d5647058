"""Repositories of the hub that lie behind a licence, which a user accepts there."""

from __future__ import annotations


def gate(error: BaseException, repository: str, kind: str = "model") -> str | None:
    """What to do where the hub refused because its licence for a repository was not accepted; None for any other error.

    The hub's client may raise its own error for this as the cause of another.
    """
    from huggingface_hub.errors import GatedRepoError

    found: BaseException | None = error
    while found is not None and not isinstance(found, GatedRepoError):
        found = found.__cause__ or found.__context__
    if found is None:
        return None
    address = f"https://huggingface.co/{'datasets/' * (kind == 'dataset')}{repository}"
    return f"accept the licence at {address}, then log in: hf auth login (or set HF_TOKEN)"
