"""Writing a model folder in hub format: complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from codebackdoor.files import remove_parts
from codebackdoor.victims.checkpoints import check_numbers, quiet
from codebackdoor.victims.checksums import write_sums


def write_folder(model: Any, tokenizer: Any, path: Path, readme: str) -> None:
    """Write a model folder with its checksums, ``config.json`` last.

    Raises UserError, and writes nothing, if the weights are not finite.
    """
    check_numbers(model, path)
    path.mkdir(parents=True, exist_ok=True)
    remove_parts(path)
    part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    try:
        with quiet():
            model.save_pretrained(part)
        # the truncation of the last call would be saved with the tokenizer
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.save_pretrained(part)
        (part / "README.md").write_text(readme, encoding="utf-8")
        write_sums(part)
        set_permissions(part)
        (path / "config.json").unlink(missing_ok=True)
        for file in sorted(part.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(path / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def set_permissions(folder: Path) -> None:
    """Give the files of a folder the permissions of the umask; safetensors makes them readable by their owner only."""
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~mask)
