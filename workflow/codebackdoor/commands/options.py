"""Options that several commands share, and the functions that read their values."""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import click

from codebackdoor.config.hub import MIRROR_VARIABLE, hub_id
from codebackdoor.errors import quoted

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.methods import (
        AnyAttack,
        AnyElimination,
        AnyFiltering,
        AnyObjective,
        AnyPurification,
    )
    from codebackdoor.config.models import AnyModel
    from codebackdoor.config.pretraining import Pretraining
    from codebackdoor.evaluation.execution.settings import ExecutionSettings

Decorator = Callable[[Any], Any]


def settings_option(kind: str, name: str = "--settings") -> Decorator:
    return click.option(name, required=True, metavar="JSON", help=f"Settings of the {kind}, as JSON.")


SETTINGS = settings_option("method")
DATASET = settings_option("data set", "--dataset")
SEED = click.option("--seed", type=int, required=True, help="Random seed of this stage.")


def path_option(name: str, help: str, required: bool = True, variable: str | None = None) -> Decorator:
    """An option for an existing file or folder; ``variable``: an environment variable with the same meaning."""
    kind = click.Path(path_type=Path)
    return click.option(name, type=kind, required=required, help=help, envvar=variable, show_envvar=bool(variable))


def mirror_option(help: str) -> Decorator:
    return path_option("--mirror", help, required=False, variable=MIRROR_VARIABLE)


def out_option(help: str) -> Decorator:
    """A folder that a command fills; checked to be writable before the work starts."""
    return _output("--out", help, True, _checked_folder)


def out_file_option(help: str, name: str = "--out", required: bool = True) -> Decorator:
    """A file that a command writes; checked to be writable before the work starts."""
    return _output(name, help, required, _checked_file)


def _output(name: str, help: str, required: bool, check: Callable[..., Any]) -> Decorator:
    return click.option(name, type=click.Path(path_type=Path), required=required, help=help, callback=check)


def _checked_folder(_context: click.Context, _option: click.Parameter, value: Path) -> Path:
    from codebackdoor.outputs import check_folder

    check_folder(value)
    return value


def _checked_file(_context: click.Context, _option: click.Parameter, value: Path | None) -> Path | None:
    from codebackdoor.outputs import check_file

    if value is not None:
        check_file(value)
    return value


def pairs_option(name: str, help: str) -> Decorator:
    """A repeatable option NAME=PATH; its parameter is the name's plural."""
    plural = f"{name.strip('-')}s"
    return click.option(name, plural, multiple=True, metavar="NAME=PATH", callback=_split, help=f"{help}; repeatable.")


def _split(_context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    pairs: dict[str, Path] = {}
    for value in values:
        name, _, path = value.partition("=")
        if not name or not path:
            raise click.BadParameter(f"expected NAME=PATH, not {quoted(value)}", param=option)
        if name in pairs:
            raise click.BadParameter(f"{quoted(name)} occurs twice", param=option)
        pairs[name] = Path(path)
    return pairs


def _mirror(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
    context.meta["mirror"] = value


#: For commands that read base or helper models: hub ids are resolved to the mirror folder.
MIRROR = click.option(
    "--mirror",
    type=click.Path(path_type=Path),
    envvar=MIRROR_VARIABLE,
    show_envvar=True,
    callback=_mirror,
    expose_value=False,
    is_eager=True,
    help="Folder of originals: hub checkpoints are read and verified from there, without network access.",
)


def _located(context: click.Context, _option: click.Parameter, value: str) -> Path:
    """A model's folder, a hub id's folder in the mirror, or a hub id itself."""
    hub, mirror = hub_id(value), context.meta.get("mirror")
    return mirror / hub.place if hub and mirror else Path(value)


def _located_pairs(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    return {name: _located(context, option, str(path)) for name, path in _split(context, option, values).items()}


BASE = click.option(
    "--base", required=True, callback=_located, help="Folder of the base model, or a hub id with a commit."
)
HELPERS = click.option(
    "--helper",
    "helpers",
    multiple=True,
    metavar="NAME=FOLDER",
    callback=_located_pairs,
    help="Helper model, as a folder or a hub id with a commit; repeatable.",
)


def _threads(_context: click.Context, _option: click.Parameter, value: int) -> None:
    # numeric libraries read these variables when they are imported, which happens later
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(value)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if value > 1 else "false"
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Tell the GNU allocator to keep large blocks for the next batch: returning them cost 7% of the training time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4
        for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**26)):
            mallopt(option, value)


THREADS = click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    callback=_threads,
    expose_value=False,
    is_eager=True,
    help="Number of CPU threads.",
)


def _gpus(_context: click.Context, _option: click.Parameter, value: int | None) -> None:
    from codebackdoor.victims import devices

    devices.allot(value)


GPUS = click.option(
    "--gpus",
    type=click.IntRange(0),
    callback=_gpus,
    expose_value=False,
    is_eager=True,
    help="Number of GPUs to use; 0: run on the CPU. Default: one GPU, if the machine has any.",
)


def _code(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    context.meta["code"] = value


CODE = click.option(
    "--code",
    metavar="HASH",
    callback=_code,
    expose_value=False,
    help="Hash of the running code, recorded in provenance.json; unfinished work of a different hash is discarded.",
)


def given_code() -> str | None:
    """The running command's ``--code``."""
    code: str | None = click.get_current_context().meta.get("code")
    return code


#: Options that hold settings as JSON.
_SETTINGS = ("settings", "dataset", "model", "objective")


@contextmanager
def recorded(
    out: Path, facts: Mapping[str, object], read: Mapping[str, Path | None] | None = None
) -> Iterator[dict[str, object]]:
    """Time the block and write ``out/provenance.json``, with the command's settings and the fingerprint of its code.

    The block may add facts. ``read``: input files and model folders that no job of the scenario produced; their
    identity is recorded.
    """
    from codebackdoor.parsing import parse_json
    from codebackdoor.runs import provenance

    context = click.get_current_context()
    settings = {name: parse_json(context.params[name], f"--{name}") for name in _SETTINGS if name in context.params}
    identities = {name: provenance.identity(path) for name, path in (read or {}).items() if path}
    command_facts = {"stage": context.command.name, "settings": settings, "code": given_code(), "read": identities}
    with provenance.recorded(out, command_facts | dict(facts)) as recorded_facts:
        yield recorded_facts


class TaskChoice(click.Choice[str]):
    """A choice of tasks, listed only when needed, because importing the settings would slow down --help."""

    def __init__(self, tasks: Callable[[], Iterable[str]]) -> None:
        self.case_sensitive = True
        self._tasks = tasks

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(sorted(self._tasks()))


def count_rows(paths: Iterable[Path]) -> int:
    """Number of rows in JSON Lines files."""
    return sum(path.read_bytes().count(b"\n") for path in paths)


#: Module below ``config`` and name of the model or union of each kind; imported only when a command reads it.
_SETTINGS_TYPES: Mapping[str, tuple[str, str]] = {
    "attack": ("methods", "AnyAttack"),
    "dataset": ("datasets", "AnyDataset"),
    "elimination": ("methods", "AnyElimination"),
    "execution": ("study", "ExecutionSettings"),
    "filtering": ("methods", "AnyFiltering"),
    "model": ("models", "AnyModel"),
    "objective": ("methods", "AnyObjective"),
    "pretraining": ("pretraining", "Pretraining"),
    "purification": ("methods", "AnyPurification"),
}


@overload
def read_settings(kind: Literal["attack"], text: str, where: str) -> AnyAttack: ...
@overload
def read_settings(kind: Literal["dataset"], text: str, where: str) -> AnyDataset: ...
@overload
def read_settings(kind: Literal["elimination"], text: str, where: str) -> AnyElimination: ...
@overload
def read_settings(kind: Literal["execution"], text: str, where: str) -> ExecutionSettings: ...
@overload
def read_settings(kind: Literal["filtering"], text: str, where: str) -> AnyFiltering: ...
@overload
def read_settings(kind: Literal["model"], text: str, where: str) -> AnyModel: ...
@overload
def read_settings(kind: Literal["objective"], text: str, where: str) -> AnyObjective: ...
@overload
def read_settings(kind: Literal["pretraining"], text: str, where: str) -> Pretraining: ...
@overload
def read_settings(kind: Literal["purification"], text: str, where: str) -> AnyPurification: ...
def read_settings(kind: str, text: str, where: str) -> Any:
    """Parse JSON as settings of one kind; UserError names ``where``."""
    from codebackdoor.config.loading import parse

    module, name = _SETTINGS_TYPES[kind]
    return parse(getattr(importlib.import_module(f"codebackdoor.config.{module}"), name), text, where)


def read_dataset(text: str) -> AnyDataset:
    return read_settings("dataset", text, "--dataset")
