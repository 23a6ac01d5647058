"""Scan or clean one checkpoint with a file of clean samples: no configuration and no study."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from codebackdoor.errors import UserError, nearest
from codebackdoor.library import wording
from codebackdoor.library.wording import ScannedCheckpoint

if TYPE_CHECKING:
    from codebackdoor.config.base import Head
    from codebackdoor.defenses.cost import Cost
    from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
    from codebackdoor.defenses.verdict import Verdict
    from codebackdoor.defenses.views import DefenderView
    from codebackdoor.victims.victim import Victim

PathLike = str | Path


class ScanOptions(TypedDict, total=False):
    """How a checkpoint is read and searched. Every key is optional; `codebackdoor scan --help` has the details.

    ``task``: what the model was trained for (``scannable_tasks``; default ``defect_detection``).
    ``language``: language of samples that do not name theirs. ``text_form``: ``raw`` or ``lexed``.
    ``max_length``: longest input in sub-tokens. ``pooling``, ``similarity``: of code search alone.
    ``calibration``: name of a shipped calibration, or a file; by default a shipped one that fits the model.
    ``benign``: at least five benign checkpoints of the same make, instead of a calibration.
    ``write_calibration``: file for the calibration made from ``benign``.
    ``settings``: settings of the method ``elibadcode`` (`codebackdoor describe elibadcode`). ``seed``: default 1.
    """

    task: str
    language: str | None
    text_form: str | None
    max_length: int | None
    pooling: str | None
    similarity: str | None
    calibration: str | None
    benign: Sequence[PathLike]
    write_calibration: PathLike | None
    settings: Mapping[str, Any] | str | None
    seed: int


_DEFAULTS: ScanOptions = {
    "task": "defect_detection",
    "language": None,
    "text_form": None,
    "max_length": None,
    "pooling": None,
    "similarity": None,
    "calibration": None,
    "benign": (),
    "write_calibration": None,
    "settings": None,
    "seed": 1,
}


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan found. ``verdict.backdoored`` is None where there is no verdict, with ``verdict.reason``."""

    checkpoint: ScannedCheckpoint
    verdict: Verdict
    seconds: float

    @property
    def backdoored(self) -> bool | None:
        return self.verdict.backdoored

    def __str__(self) -> str:
        """The answer as `codebackdoor scan` prints it; its first line is a sentence."""
        return "\n".join(wording.lines(self.checkpoint, self.verdict))

    def to_json(self) -> dict[str, object]:
        """The object that `codebackdoor scan --json` prints (docs/scan-and-clean.md)."""
        return wording.as_json(self.checkpoint, self.verdict, self.seconds)


@dataclass(frozen=True, slots=True)
class CleanResult:
    """A scan, and the cost of unlearning what it found; ``cost`` and ``out`` are None where nothing was unlearned.

    ``cost.is_clean`` says whether the scan after the last round found nothing; None without a calibration.
    """

    scan: ScanResult
    cost: Cost | None
    out: Path | None
    left_out: tuple[str, ...]
    lines: tuple[str, ...]

    def __str__(self) -> str:
        """The answer as `codebackdoor clean` prints it."""
        last = "nothing was unlearned or written" if self.out is None else f"written to {self.out}"
        return "\n".join((*self.lines, f"  {last}"))

    def to_json(self) -> dict[str, object]:
        """The object that `codebackdoor clean --json` prints."""
        written = None if self.out is None else str(self.out)
        return self.scan.to_json() | {"cost": self.cost and asdict(self.cost), "out": written,
                                      "left_out": list(self.left_out)}  # fmt: skip


def scannable_tasks() -> dict[str, Head]:
    """The tasks whose checkpoints can be scanned, and the head that each needs."""
    from codebackdoor.config.datasets import DATASETS
    from codebackdoor.heads import HEADS

    # a trigger is searched in code, towards a label or a rank
    return {
        task: settings.head
        for task, settings in DATASETS.items()
        if "code" in settings.reads and not HEADS[settings.head].generates
    }


def scan(model: PathLike, samples: PathLike, **options: Unpack[ScanOptions]) -> ScanResult:
    """Say whether the checkpoint in the folder ``model`` is backdoored, from clean ``samples``.

    ``model`` is a folder that save_pretrained wrote (safetensors only), ``samples`` a file of JSON Lines.

    Raises UserError, with one sentence, for anything about model, samples or options that cannot be used.
    """
    start = time.monotonic()
    from codebackdoor.defenses import verdict

    with _prepared(Path(model), Path(samples), options) as (view, settings, checkpoint):
        judged = verdict.judge(view, settings, _complete(options)["seed"])
    return ScanResult(checkpoint, _named(judged, options), time.monotonic() - start)


def clean(
    model: PathLike, samples: PathLike, out: PathLike, force: bool = False, **options: Unpack[ScanOptions]
) -> CleanResult:
    """Scan the checkpoint, unlearn what is found, and write the edited model to the new folder ``out``.

    ``force`` unlearns the most suspicious trigger also without a verdict, or where it is "clean". The folder appears
    whole or not at all. Raises UserError as ``scan`` does, and where ``out`` cannot be written.
    """
    start = time.monotonic()
    from codebackdoor.defenses import cleaning
    from codebackdoor.outputs import new_folder
    from codebackdoor.victims.edited import copy_unedited

    model, out = Path(model), Path(out)
    with new_folder(out) as folder, _prepared(model, Path(samples), options) as (view, settings, checkpoint):
        copy = copy_unedited(model, folder.part)
        judged, edited, cost = cleaning.clean(view, settings, _complete(options)["seed"], force, copy.dtype)
        judged = _named(judged, options)
        lines = wording.lines(checkpoint, judged)
        if cost is not None:
            lines += [*wording.cost_lines(judged, cost), *wording.copy_lines(copy)]
            title = type(edited.model).__name__
            copy.finish(edited, settings.model_dump(mode="json"), wording.readme(title, lines))
            folder.finish()
    result = ScanResult(checkpoint, judged, time.monotonic() - start)
    return CleanResult(result, cost, None if cost is None else out, tuple(copy.left_out), tuple(lines))


def _complete(options: ScanOptions) -> ScanOptions:
    """The options with the defaults of those that are missing; TypeError for one that does not exist."""
    for name in options:
        if name not in _DEFAULTS:
            raise TypeError(f"unknown option {name!r}{nearest(name, _DEFAULTS)}")
    tasks = scannable_tasks()
    if options.get("task", "defect_detection") not in tasks:
        raise UserError(f"task {options['task']!r} cannot be scanned{nearest(options['task'], tasks)}")
    return {**_DEFAULTS, **options}


@contextmanager
def _prepared(
    model: Path, samples: Path, options: ScanOptions
) -> Iterator[tuple[DefenderView, EliBadCodeSettings, ScannedCheckpoint]]:
    """The model with its samples, the search to run, and how the model is read.

    A calibration made from benign models lives as long as the context, unless a file is named for it.
    """
    options = _complete(options)
    head = scannable_tasks()[options["task"]]
    benign = [Path(folder) for folder in options["benign"]]
    kept = None if options["write_calibration"] is None else Path(options["write_calibration"])
    if options["calibration"] and benign:
        raise UserError("--calibration and --benign: name one of them")
    if kept is not None and not benign:
        raise UserError("--write-calibration goes with --benign")
    if (options["pooling"] or options["similarity"]) and head != "retrieval":
        raise UserError("--pooling and --similarity go with --task code_search")
    requested = _search_settings(options["settings"])
    from codebackdoor.defenses import verdict
    from codebackdoor.defenses.elimination.elibadcode.calibration import check_replaceable
    from codebackdoor.defenses.samples import read_samples
    from codebackdoor.defenses.views import DefenderView
    from codebackdoor.victims.external import check_lengths, load_checkpoint
    from codebackdoor.victims.temperature import standardized

    if kept is not None and kept.exists():
        check_replaceable(kept)

    def load(folder: Path) -> Victim:
        reading: tuple[Any, ...] = tuple(options[key] for key in ("text_form", "max_length", "pooling", "similarity"))
        return load_checkpoint(folder, head, *reading)

    victim = load(model)
    language: Any = options["language"]
    rows = read_samples(samples, language, victim.text_form, victim.head, int(victim.model.config.num_labels))
    too_long = check_lengths(model, victim, rows, is_explicit=options["max_length"] is not None)
    task = options["task"]
    view = DefenderView(task, rows[0].language, victim.text_form, rows, victim=standardized(victim, rows))
    checkpoint = _checkpoint(model, view, too_long, options["seed"])
    if not benign:
        yield view, verdict.settings_for(view, options["calibration"], requested), checkpoint
        return
    with tempfile.TemporaryDirectory() as folder:
        file = kept or Path(folder) / "calibration.json"
        verdict.calibrate_on(view, benign, load, requested or verdict.UNCALIBRATED, file)
        yield view, verdict.settings_for(view, str(file), requested), checkpoint


def _checkpoint(model: Path, view: DefenderView, too_long: int, seed: int) -> ScannedCheckpoint:
    from codebackdoor import __version__
    from codebackdoor.files import read_object, sha256
    from codebackdoor.victims.edited import run_elsewhere
    from codebackdoor.victims.headers import weight_files
    from codebackdoor.victims.victim import KEY

    card = read_object(model / "config.json").get(KEY)
    claim = None
    if isinstance(card, dict) and True in (card.get("backdoored"), card.get("backdoored_before")):
        before = "" if "elimination" not in card else ", before an elimination edited it"
        claim = f"the model card in config.json says that the model is backdoored{before}"
    return ScannedCheckpoint(
        version=__version__,
        model=str(model),
        weights={path.name: sha256(path) for path in weight_files(model)},
        card=claim,
        beside=run_elsewhere(model),
        text_form=view.victim.text_form,
        max_length=view.victim.max_length,
        samples=len(view.clean),
        cut=too_long,
        seed=seed,
    )


def _search_settings(settings: Mapping[str, Any] | str | None) -> EliBadCodeSettings | None:
    """Settings of the method `elibadcode`, as a mapping or as JSON; the method's name may be left out."""
    if settings is None:
        return None
    from codebackdoor.config.loading import parse
    from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings

    text = settings if isinstance(settings, str) else json.dumps(dict(settings))
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict):
        text = json.dumps({"method": "elibadcode"} | content)
    parsed: EliBadCodeSettings = parse(EliBadCodeSettings, text, "--settings")
    return parsed


def _named(verdict: Verdict, options: ScanOptions) -> Verdict:
    """The verdict without the name of a calibration that was temporary."""
    temporary = options.get("benign") and options.get("write_calibration") is None
    return replace(verdict, calibration=None) if temporary else verdict
