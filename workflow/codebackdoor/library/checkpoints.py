"""Scan or clean one checkpoint with a file of clean samples: no configuration and no study."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from codebackdoor.errors import UserError, nearest
from codebackdoor.library import wording
from codebackdoor.library.method_settings import check_known, completed
from codebackdoor.library.wording import ScannedCheckpoint

if TYPE_CHECKING:
    from codebackdoor.config.base import Head
    from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
    from codebackdoor.defenses.views import DefenderView
    from codebackdoor.library.cleaning_cost import Cost
    from codebackdoor.library.verdict import Verdict
    from codebackdoor.victims.victim import Victim

PathLike = str | Path


class ScanOptions(TypedDict, total=False):
    """Options of a scan. Every key is optional; see `codebackdoor scan --help` for details.

    ``task``: task that the model was trained for (``scannable_tasks``; default ``defect_detection``).
    ``language``: language of samples that do not name it. ``text_form``: ``raw`` or ``lexed``.
    ``max_length``: longest input in sub-tokens. ``pooling``, ``similarity``: for code search only.
    ``calibration``: name of a shipped calibration, or a file; by default a shipped one that fits the model.
    ``benign``: at least five benign checkpoints of the same kind, instead of a calibration.
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
    """The result of a scan. ``verdict.backdoored`` is None if there is no verdict; ``verdict.reason`` says why."""

    checkpoint: ScannedCheckpoint
    verdict: Verdict
    seconds: float

    @property
    def backdoored(self) -> bool | None:
        return self.verdict.backdoored

    def __str__(self) -> str:
        """The result as `codebackdoor scan` prints it; the first line is the verdict."""
        return "\n".join(wording.lines(self.checkpoint, self.verdict))

    def to_json(self) -> dict[str, object]:
        """The JSON object of `codebackdoor scan --json` (docs/scan-and-clean.md)."""
        return wording.as_json(self.checkpoint, self.verdict, self.seconds)


@dataclass(frozen=True, slots=True)
class CleanResult:
    """The result of a scan and the cost of unlearning; ``cost`` and ``out`` are None if nothing was unlearned.

    ``cost.is_clean``: whether the final scan found nothing; None without a calibration.
    """

    scan: ScanResult
    cost: Cost | None
    out: Path | None
    left_out: tuple[str, ...]
    lines: tuple[str, ...]

    def __str__(self) -> str:
        """The result as `codebackdoor clean` prints it."""
        last = "nothing was unlearned or written" if self.out is None else f"written to {self.out}"
        return "\n".join((*self.lines, f"  {last}"))

    def to_json(self) -> dict[str, object]:
        """The JSON object of `codebackdoor clean --json`."""
        written = None if self.out is None else str(self.out)
        return self.scan.to_json() | {"cost": self.cost and asdict(self.cost), "out": written,
                                      "left_out": list(self.left_out)}  # fmt: skip


def scannable_tasks() -> dict[str, Head]:
    """The tasks whose checkpoints can be scanned, with their heads."""
    from codebackdoor.config.datasets import DATASETS
    from codebackdoor.heads import HEADS

    # the search inverts a trigger in code, for a label or a rank
    return {
        task: settings.head
        for task, settings in DATASETS.items()
        if "code" in settings.reads and not HEADS[settings.head].generates
    }


def scan(model: PathLike, samples: PathLike, **options: Unpack[ScanOptions]) -> ScanResult:
    """Check whether the checkpoint in the folder ``model`` is backdoored, using clean ``samples``.

    ``model`` is a folder written by save_pretrained (safetensors only), ``samples`` a file of JSON Lines.

    Raises UserError, with one sentence, if the model, the samples or an option cannot be used.
    """
    start = time.monotonic()
    from codebackdoor.library import verdict

    with _prepared(Path(model), Path(samples), options) as (view, settings, checkpoint):
        judged = verdict.judge(view, settings, _complete(options)["seed"])
    return ScanResult(checkpoint, _named(judged, options), time.monotonic() - start)


def clean(
    model: PathLike, samples: PathLike, out: PathLike, force: bool = False, **options: Unpack[ScanOptions]
) -> CleanResult:
    """Scan the checkpoint, unlearn the trigger that is found, and write the edited model to the new folder ``out``.

    ``force`` unlearns the most suspicious trigger even without a verdict or if it is "clean". The folder is written
    completely or not at all. Raises UserError like ``scan``, and if ``out`` cannot be written.
    """
    start = time.monotonic()
    from codebackdoor.library import cleaning
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
    """The options, completed by defaults; TypeError for an unknown option."""
    check_known(options, _DEFAULTS)
    tasks = scannable_tasks()
    if options.get("task", "defect_detection") not in tasks:
        raise UserError(f"models for the task {options['task']!r} cannot be scanned{nearest(options['task'], tasks)}")
    return {**_DEFAULTS, **options}


@contextmanager
def _prepared(
    model: Path, samples: Path, options: ScanOptions
) -> Iterator[tuple[DefenderView, CalibratedSettings, ScannedCheckpoint]]:
    """The model with its samples, the settings of the search, and facts about the scanned checkpoint.

    A calibration from benign models is deleted with the context, unless `write_calibration` names a file.
    """
    from codebackdoor.heads import HEADS

    options = _complete(options)
    head = scannable_tasks()[options["task"]]
    benign = [Path(folder) for folder in options["benign"]]
    kept = None if options["write_calibration"] is None else Path(options["write_calibration"])
    if options["calibration"] and benign:
        raise UserError("--calibration and --benign exclude each other: use one of them")
    if kept is not None and not benign:
        raise UserError("--write-calibration needs --benign")
    if (options["pooling"] or options["similarity"]) and not HEADS[head].ranks:
        raise UserError("--pooling and --similarity need --task code_search")
    requested = _search_settings(options["settings"])
    from codebackdoor.defenses.defender_view import checkpoint_view
    from codebackdoor.defenses.elimination.inversion.calibration.losses import check_replaceable
    from codebackdoor.library import verdict
    from codebackdoor.library.samples import read_samples
    from codebackdoor.victims.external import check_lengths, load_checkpoint

    if kept is not None and kept.exists():
        check_replaceable(kept)

    def load(folder: Path) -> Victim:
        reading: tuple[Any, ...] = tuple(options[key] for key in ("text_form", "max_length", "pooling", "similarity"))
        return load_checkpoint(folder, head, *reading)

    victim = load(model)
    language: Any = options["language"]
    rows = read_samples(samples, language, victim.text_form, victim.head, int(victim.model.config.num_labels))
    too_long = check_lengths(model, victim, rows, is_explicit=options["max_length"] is not None)
    view = checkpoint_view(victim, options["task"], rows[0].language, rows, {})
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
        not_examined=run_elsewhere(model),
        text_form=view.victim.text_form,
        max_length=view.victim.max_length,
        samples=len(view.clean),
        cut=too_long,
        seed=seed,
    )


def _search_settings(settings: Mapping[str, Any] | str | None) -> CalibratedSettings | None:
    """Settings of a label scan, from a mapping or JSON; the method is `elibadcode` unless they name another."""
    if settings is None:
        return None
    from codebackdoor.config.loading import parse
    from codebackdoor.config.methods import AnyElimination
    from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings

    parsed = parse(AnyElimination, completed(settings, {"method": "elibadcode"}), "--settings")
    if not isinstance(parsed, CalibratedSettings):
        raise UserError(f"--settings: {parsed.label} has no label scan; use `elibadcode`")
    return parsed


def _named(verdict: Verdict, options: ScanOptions) -> Verdict:
    """The verdict without the name of a temporary calibration."""
    temporary = options.get("benign") and options.get("write_calibration") is None
    return replace(verdict, calibration=None) if temporary else verdict
