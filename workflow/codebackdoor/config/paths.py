"""The one rule for every path that a configuration names: what it stands for, and how it is written from then on.

``~`` is the home folder, ``$NAME`` and ``${NAME}`` are variables of the environment. What comes out is written in one
way, whoever wrote it: Snakemake compares paths as texts. Each function raises ValueError with a sentence about a path
that cannot be taken, and leaves alone what it has returned before: settings travel to the jobs and are read again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from codebackdoor.config.hub import hub_id
from codebackdoor.errors import quoted

#: Bytes of the longest name that file systems have, and of a path below which a run finds room for its own.
NAME_BYTES, PATH_BYTES = 255, 2000
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})|(\$)")
#: How a folder of a model is told from the hub's owner/name.
LOCAL = (".", "/", "~", "$")


def expanded(text: str) -> str:
    """The path with the home folder and the values of variables in it."""
    home, rest = "", text
    if text.startswith("~"):
        user, slash, rest = text.partition("/")
        try:
            home = f"{Path(user).expanduser()}{slash}"
        except RuntimeError:
            raise ValueError(f"{quoted(user)}: there is no such home folder; write the path itself") from None
    return home + _VARIABLE.sub(_value, rest)


def _value(match: re.Match[str]) -> str:
    name = match[1] or match[2]
    if name is None:
        raise ValueError("a $ stands for a variable of the environment, as in $SCRATCH/runs; write the path without it")
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"{match[0]} is not set in the environment; set it, or write the path itself")
    return value


def normalized(text: str, placeholders: Collection[str] = ()) -> str:
    """The path as it is written from then on: expanded, without ``.``, ``..`` within it, doubled or last slashes.

    One below the working directory is relative to that. ``placeholders`` are names that may stand in braces.
    """
    if not text.strip():
        raise ValueError("an empty path; write a file or a folder")
    path = expanded(text)
    _check(path, placeholders)
    plain = os.path.normpath(path)
    # `..` behind a link is above the folder that the link leads to
    if ".." in path.split("/") and os.path.realpath(path) != os.path.realpath(plain):
        plain = os.path.realpath(path)
    if plain.startswith("/"):
        plain = f"/{plain.lstrip('/')}"
        working_directory = Path.cwd()
        plain = os.path.relpath(plain, working_directory) if Path(plain).is_relative_to(working_directory) else plain
    if plain.startswith(("-", "~")):
        raise ValueError(f"{quoted(plain)}: a name that begins with {plain[0]} means something else; choose another")
    return plain


def _check(path: str, placeholders: Collection[str]) -> None:
    bare = re.sub(rf"\{{({'|'.join(placeholders)})\}}", "", path) if placeholders else path
    if "{" in bare or "}" in bare:
        exceptions = f" but for {', '.join(f'{{{name}}}' for name in placeholders)}" if placeholders else ""
        raise ValueError(f"{quoted(path)}: braces stand for wildcards of the workflow; write none{exceptions}")
    if "$" in path or "://" in path or not path.isprintable() or path != path.strip():
        raise ValueError(
            f"{quoted(path)}: not a path that the workflow can use; write one without $, ://, control characters, and "
            "spaces at its ends"
        )
    if len(os.fsencode(path)) > PATH_BYTES or any(len(os.fsencode(name)) > NAME_BYTES for name in path.split("/")):
        raise ValueError(f"{quoted(path)}: longer than file systems allow; write a shorter path")


def run_folder(text: str) -> str:
    """The folder of a run, which is neither the working directory nor above it."""
    path = normalized(text)
    if Path.cwd().is_relative_to(Path(path).resolve()):
        raise ValueError(f"{quoted(text)} is the working directory or above it; write a folder of its own: runs/local")
    return path


def model_folder(text: str) -> str:
    """A base model: a folder with ``./``, ``../`` or ``/`` in front, or something else, which is left as it is."""
    if not text.startswith(LOCAL):
        return text
    path = normalized(text)
    return path if path.startswith(("/", "..")) else f"./{path}"


def helper_folder(text: str) -> str:
    """A helper model: a folder, or a checkpoint of the hub with its commit."""
    if "@" in text and not text.startswith(LOCAL):
        return text
    path = normalized(text)
    return path if hub_id(path) is None else f"./{path}"


FilePath = Annotated[str, AfterValidator(normalized)]
FolderPath = Annotated[Path, BeforeValidator(lambda value: normalized(value) if isinstance(value, str) else value)]
RunFolder = Annotated[str, AfterValidator(run_folder)]
ModelFolder = Annotated[str, AfterValidator(model_folder)]
HelperFolder = Annotated[str, AfterValidator(helper_folder)]
CalibrationPath = Annotated[str, AfterValidator(lambda text: normalized(text, ("dataset", "model")))]
