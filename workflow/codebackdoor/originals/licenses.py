"""Repositories of the hub behind a license that users must accept there."""

from __future__ import annotations


def gate(error: BaseException, repository: str, kind: str = "model") -> str | None:
    """What to do if the hub refused because the license of a repository was not accepted; None for any other error.

    The hub's client may raise this error as the cause of another one.
    """
    from huggingface_hub.errors import GatedRepoError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, GatedRepoError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    address = f"https://huggingface.co/{'datasets/' * (kind == 'dataset')}{repository}"
    return f"accept the license at {address}, then log in: hf auth login (or set HF_TOKEN)"
