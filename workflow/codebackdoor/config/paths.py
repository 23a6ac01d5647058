"""Expansion and normalization of every path in a configuration.

``~`` is the home folder, ``$NAME`` and ``${NAME}`` are environment variables. Paths are normalized, because Snakemake
compares them as strings. The functions raise ValueError, with a sentence, for unusable paths. They are idempotent,
because the settings that are passed to jobs are parsed again.
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

#: Maximum bytes of a file name on common file systems, and of a folder that leaves room for the paths of a run.
NAME_BYTES, PATH_BYTES = 255, 2000
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})|(\$)")
#: Beginnings that distinguish the folder of a model from a hub id (owner/name).
LOCAL = (".", "/", "~", "$")


def expanded(text: str) -> str:
    """The path with the home folder and environment variables expanded."""
    home, rest = "", text
    if text.startswith("~"):
        user, slash, rest = text.partition("/")
        try:
            home = f"{Path(user).expanduser()}{slash}"
        except RuntimeError:
            raise ValueError(f"{quoted(user)}: no such home folder; write out the path") from None
    return home + _VARIABLE.sub(_value, rest)


def _value(match: re.Match[str]) -> str:
    name = match[1] or match[2]
    if name is None:
        raise ValueError(
            "$ must be followed by the name of an environment variable, as in $SCRATCH/runs; write a path without $"
        )
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"{match[0]} is not set in the environment; set it, or write out the path")
    return value


def normalized(text: str, placeholders: Collection[str] = ()) -> str:
    """The normalized path: expanded, without ``.``, inner ``..``, double slashes or a trailing slash.

    Paths below the working directory become relative. ``placeholders`` are names that may be used in braces.
    """
    if not text.strip():
        raise ValueError("the path is empty; write a file or a folder")
    path = expanded(text)
    _check(path, placeholders)
    plain = os.path.normpath(path)
    # `..` after a link means the parent of the link's target
    if ".." in path.split("/") and os.path.realpath(path) != os.path.realpath(plain):
        plain = os.path.realpath(path)
    if plain.startswith("/"):
        plain = f"/{plain.lstrip('/')}"
        working_directory = Path.cwd()
        plain = os.path.relpath(plain, working_directory) if Path(plain).is_relative_to(working_directory) else plain
    if plain.startswith(("-", "~")):
        raise ValueError(f"{quoted(plain)}: names that begin with {plain[0]} have a special meaning; use another name")
    return plain


def _check(path: str, placeholders: Collection[str]) -> None:
    bare = re.sub(rf"\{{({'|'.join(placeholders)})\}}", "", path) if placeholders else path
    if "{" in bare or "}" in bare:
        exceptions = f" except for {', '.join(f'{{{name}}}' for name in placeholders)}" if placeholders else ""
        raise ValueError(f"{quoted(path)}: braces are reserved for wildcards of the workflow; remove them{exceptions}")
    if "$" in path or "://" in path or not path.isprintable() or path != path.strip():
        raise ValueError(
            f"{quoted(path)}: the workflow cannot use this path; write one without $, ://, control characters, and "
            "leading or trailing spaces"
        )
    if len(os.fsencode(path)) > PATH_BYTES or any(len(os.fsencode(name)) > NAME_BYTES for name in path.split("/")):
        raise ValueError(f"{quoted(path)}: too long for file systems; write a shorter path")


def run_folder(text: str) -> str:
    """The folder of a run, which must not be the working directory or one of its parents."""
    path = normalized(text)
    if Path.cwd().is_relative_to(Path(path).resolve()):
        raise ValueError(
            f"{quoted(text)} is the working directory or one of its parents; use a separate folder, such as runs/local"
        )
    return path


def model_folder(text: str) -> str:
    """A base model: a folder that begins with ``./``, ``../`` or ``/``; any other text is returned unchanged."""
    if not text.startswith(LOCAL):
        return text
    path = normalized(text)
    return path if path.startswith(("/", "..")) else f"./{path}"


def helper_folder(text: str) -> str:
    """A helper model: a folder, or a hub checkpoint with its commit."""
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
