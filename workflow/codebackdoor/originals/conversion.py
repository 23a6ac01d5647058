"""Conversion of originals that no reader accepts as they are: pickled weights of known repositories, and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codebackdoor.config.hub import HubId
from codebackdoor.errors import UserError, disk_trouble
from codebackdoor.files import atomic

#: Checkpoints whose ``pytorch_model.bin`` may be converted: those of the papers, which have no safetensors at their
#: commits. The SHA-256 is pinned where it was available; for the others, the one that the hub states at the first
#: fetch is trusted.
CONVERTED: dict[HubId, str | None] = {
    HubId("microsoft/codebert-base", "3b0952feddeffad0063f274080e3c23d75e7eb39"): (
        "28b61fd8fa069f6bc966f4cb9572a4026ab2a784fca8fb224020d91b744e32d6"
    ),
    HubId("microsoft/codebert-base-mlm", "71b41964e82666ecdb8c72b11d8a02395e6fcda5"): None,
    HubId("Salesforce/codet5-base", "4078456db09ba972a3532827a0b5df4da172323c"): None,
    HubId("microsoft/unixcoder-base", "5604afdc964f6c53782a6813140ade5216b99006"): None,
}


def to_safetensors(pickled: Path, out: Path) -> None:
    """Write the tensors of a PyTorch checkpoint as safetensors under the same names; no code in it is executed."""
    import torch
    from safetensors.torch import save_file

    with _reading(pickled, "weights alone"):
        state = torch.load(pickled, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{pickled.name}: contains something other than named tensors; it is not converted")
    with _reading(pickled, "dense tensors"):
        # tied weights share their memory, which safetensors does not allow
        tensors = {str(name): tensor.detach().clone().contiguous() for name, tensor in state.items()}
        save_file(tensors, out, metadata={"format": "pt"})


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Turn any error that a damaged file causes in a reader into one UserError; disk errors are passed on."""
    try:
        yield
    # broken bytes raise KeyError, ValueError, struct.error, ...; the other originals are still fetched
    except Exception as error:
        if isinstance(error, OSError) or disk_trouble(error):
            raise
        message = (str(error).splitlines() or [""])[0]
        raise UserError(f"{path.name}: cannot be read as {kind}: {type(error).__name__}: {message}") from None


def to_rows(parquet: Path, out: Path) -> None:
    """Write Devign's table as JSON Lines in CodeXGLUE's form: target is 0 or 1, idx is the hub's id."""
    try:
        from pyarrow import parquet as tables
    except ImportError:
        raise UserError("reading the hub's tables needs pyarrow; `make fetch` installs it") from None
    with _reading(parquet, "Devign's table"), atomic(out) as stream:
        table = tables.read_table(parquet, columns=["project", "commit_id", "target", "func", "id"])
        for batch in table.to_batches():
            for row in batch.to_pylist():
                stream.write(json.dumps(_devign(row)) + "\n")


def _devign(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "project": row["project"],
        "commit_id": row["commit_id"],
        "target": int(row["target"]),
        "func": row["func"],
        "idx": row["id"],
    }
