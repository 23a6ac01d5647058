"""Sanitize source code for a checkpoint: find the element that a prediction depends on, and replace it (CodePurify)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from codebackdoor.errors import UserError, nearest, printable
from codebackdoor.library import sanitize_wording
from codebackdoor.library.method_settings import check_known, completed

if TYPE_CHECKING:
    from codebackdoor.config.base import Head
    from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
    from codebackdoor.defenses.views import DefenderView
    from codebackdoor.library.sources import Edit, SourceFunction, SourceText
    from codebackdoor.types import Example, Language, Purified, Span, TextForm
    from codebackdoor.victims.victim import Victim

PathLike = str | Path

#: The masked language model that the repository ships: lexed Python, with the vocabulary of the local victims.
SHIPPED_ENCODER = Path(__file__).parents[3] / "basemodels" / "encoder"
#: Which inputs are suspicious: those with an entropy below the threshold, or all or none.
PurifiedInputs = Literal["below", "all", "none"]


class SanitizeOptions(TypedDict, total=False):
    """Options of a sanitization. Every key is optional; see `codebackdoor sanitize --help` for details.

    ``clean``: file of clean rows for calibrating the threshold; or ``threshold``: the entropy below which a function is
    suspicious. ``task``: task that the model was trained for (``sanitizable_tasks``; default ``defect_detection``).
    ``language``: language of files whose names do not reveal it. ``text_form``: ``raw`` or
    ``lexed``. ``max_length``: longest input in sub-tokens. ``infiller``: folder of a masked language model of code.
    ``settings``: settings of the method ``codepurify`` (`codebackdoor describe codepurify`); for pairs ``pairs`` is
    ``joint`` by default. ``seed``: default 1.
    """

    clean: PathLike | None
    threshold: float | None
    task: str
    language: Language | None
    text_form: TextForm | None
    max_length: int | None
    infiller: PathLike | None
    settings: Mapping[str, Any] | str | None
    seed: int


_DEFAULTS: SanitizeOptions = {
    "clean": None,
    "threshold": None,
    "task": "defect_detection",
    "language": None,
    "text_form": None,
    "max_length": None,
    "infiller": None,
    "settings": None,
    "seed": 1,
}


@dataclass(frozen=True, slots=True)
class InputFinding:
    """The findings about one input of the model: a function, or a pair of functions (``name_b``).

    ``kind`` (identifier or statement) and ``element`` are the element that the prediction depends on most; ``effect``
    is how much masking it changes the confidence in the prediction; ``entropy`` is how evenly such effects are spread
    over all elements, in nats (None for fewer than two elements). ``replaced``: whether the element of a suspicious
    input was replaced (for a pair: in each function that contains it); ``lines``: where; ``parses``: whether the
    functions still parse (None if nothing was replaced, or if they did not parse before). ``label`` and ``label_after``
    are predictions, None if the model generates. ``length``: sub-tokens of the longest text, of which the model reads
    ``read``.
    """

    file: str
    name: str
    line: int
    name_b: str | None
    suspicious: bool
    kind: str | None
    element: str | None
    effect: float | None
    entropy: float | None
    replaced: bool
    parses: bool | None
    lines: tuple[int, ...]
    label: int | None
    label_after: int | None
    read: int
    length: int


@dataclass(frozen=True, slots=True)
class SanitizedFile:
    """A file before and after; ``diff`` is a unified diff, empty if nothing was replaced."""

    name: str
    before: str
    after: str
    diff: str


@dataclass(frozen=True, slots=True)
class SanitizeResult:
    """The result of a sanitization; ``threshold`` (nats) is None unless inputs ``below`` it are ``purified``."""

    model: str
    findings: tuple[InputFinding, ...]
    files: tuple[SanitizedFile, ...]
    purified: PurifiedInputs
    threshold: float | None
    calibrated_on: int
    touched_share: float
    notes: tuple[str, ...]
    seconds: float

    @property
    def suspicious(self) -> bool:
        """Whether any input is suspicious."""
        return any(finding.suspicious for finding in self.findings)

    def __str__(self) -> str:
        """The result as `codebackdoor sanitize` prints it: what was found and why, and the changes as a diff."""
        diffs = [sanitize_wording.harmless(file.diff.removesuffix("\n")) for file in self.files if file.diff]
        return "\n".join([*map(printable, sanitize_wording.lines(self)), *diffs])

    def to_json(self) -> dict[str, object]:
        """The JSON object of `codebackdoor sanitize --json` (docs/sanitize.md)."""
        return asdict(self) | {"suspicious": self.suspicious, "seconds": round(self.seconds, 3)}


def sanitizable_tasks() -> dict[str, Head]:
    """The tasks whose models CodePurify works on, with their heads."""
    from codebackdoor.config.datasets import DATASETS
    from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings

    return {
        task: settings.head
        for task, settings in DATASETS.items()
        if "code" in settings.reads and settings.head in CodePurifySettings.fits
    }


def sanitize(
    model: PathLike, sources: Sequence[PathLike | SourceText], **options: Unpack[SanitizeOptions]
) -> SanitizeResult:
    """Find the functions in source files whose prediction depends on a single element, and replace that element.

    ``model`` is a folder written by save_pretrained (safetensors only). The result has each file before and after; no
    file is written. Raises UserError, with one sentence, if the model, a file or an option cannot be used.
    """
    start = time.monotonic()
    complete = _complete(options)
    head = sanitizable_tasks()[complete["task"]]
    settings = _settings(complete, head)
    from codebackdoor.defenses.purification.codepurify.method import build
    from codebackdoor.defenses.suspicion.scoring import DIGITS
    from codebackdoor.library.sources import functions_of, read_sources, unified_diff
    from codebackdoor.syntax import replace as replaced
    from codebackdoor.victims.external import load_checkpoint
    from codebackdoor.victims.inference import predict

    texts = read_sources(sources, complete["language"])
    victim = load_checkpoint(Path(model), head, complete["text_form"], complete["max_length"])
    functions = [functions_of(source, victim.text_form) for source in texts]
    inputs = _inputs(functions, victim)
    examples = [_example(number, functions) for number, functions in enumerate(inputs)]
    view, notes = _view(victim, complete, texts[0].language)
    purifier = build(view, settings, complete["seed"])
    rows = purifier.purify(examples)
    before = predict(view.victim, examples)
    after = predict(view.victim, [row.example for row in rows])
    lengths = _lengths(victim, inputs)
    edits = [_edits(group, row) for group, row in zip(inputs, rows, strict=True)]
    findings = tuple(
        _finding(group, row, part, (first.label, last.label), (min(length, victim.max_length), length))
        for group, row, part, first, last, length in zip(inputs, rows, edits, before, after, lengths, strict=True)
    )
    by_file: dict[str, list[Edit]] = {source.name: [] for source in texts}
    for function, changes in chain.from_iterable(edits):
        by_file[function.source.name] += changes
    results = []
    for source in texts:
        new = replaced(source.text, by_file[source.name]).text
        results.append(SanitizedFile(source.name, source.text, new, unified_diff(source, new)))
    return SanitizeResult(
        str(model),
        findings,
        tuple(results),
        _purified(purifier.threshold),
        round(purifier.threshold, DIGITS) if math.isfinite(purifier.threshold) else None,
        min(len(view.clean), settings.calibration_inputs) if settings.threshold is None else 0,
        settings.touched_share,
        (*notes, *_notes_on(inputs, findings)),
        time.monotonic() - start,
    )


def _complete(options: SanitizeOptions) -> SanitizeOptions:
    """The options, completed by defaults; TypeError for an unknown option."""
    check_known(options, _DEFAULTS)
    complete: SanitizeOptions = {**_DEFAULTS, **options}
    tasks = sanitizable_tasks()
    if complete["task"] not in tasks:
        raise UserError(
            f"code for models of the task {complete['task']!r} cannot be sanitized{nearest(complete['task'], tasks)}"
        )
    return complete


def _settings(options: SanitizeOptions, head: Head) -> CodePurifySettings:
    """Settings of CodePurify, as a mapping or as JSON, with the threshold of the options.

    Unless the settings say otherwise, the elements of pairs are ``joint``: with a trigger in both functions, masking
    one of the two changes nothing.
    """
    from codebackdoor.config.loading import parse
    from codebackdoor.config.methods import AnyPurification
    from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
    from codebackdoor.heads import HEADS

    defaults = {"method": "codepurify"} | ({"pairs": "joint"} if HEADS[head].reads_pairs else {})
    fixed = {} if options["threshold"] is None else {"threshold": options["threshold"]}
    text = completed(options["settings"] or {}, defaults, fixed)
    parsed = parse(AnyPurification, text, "--settings")
    if not isinstance(parsed, CodePurifySettings):
        raise UserError(f"--settings: {parsed.label} cannot sanitize files; use `codepurify`")
    if parsed.threshold is None and options["clean"] is None:
        raise UserError("name clean rows with --clean, by which the threshold is calibrated, or a --threshold")
    return parsed


def _inputs(functions: Sequence[Sequence[SourceFunction]], victim: Victim) -> list[tuple[SourceFunction, ...]]:
    """The functions of each input; a pair consists of the functions of two consecutive files."""
    from codebackdoor.heads import HEADS

    if not HEADS[victim.head].reads_pairs:
        return [(function,) for group in functions for function in group]
    for group in functions:
        if len(group) > 1:
            raise UserError(f"{group[1]}: a second function; a model of pairs needs files with one function each")
    if len(functions) % 2:
        raise UserError(
            f"{functions[-1][0].source.name}: its second function is missing; a model of pairs reads two functions, so "
            "name an even number of files: each pair one after the other"
        )
    single = [function for (function,) in functions]
    return list(zip(single[::2], single[1::2], strict=True))


def _example(number: int, functions: Sequence[SourceFunction]) -> Example:
    from codebackdoor.types import Example

    first, *rest = functions
    return Example(str(number), first.source.language, first.code, rest[0].code if rest else None)


def _view(victim: Victim, options: SanitizeOptions, language: Language) -> tuple[DefenderView, list[str]]:
    """The model with clean rows and the infiller, and notes for the user."""
    from codebackdoor.defenses.defender_view import checkpoint_view
    from codebackdoor.library.samples import read_unlabeled
    from codebackdoor.victims.external import check_lengths

    infiller, notes = _infiller(victim, options, language)
    clean: tuple[Example, ...] = ()
    if options["clean"] is not None:
        path = Path(options["clean"])
        clean = read_unlabeled(path, language, victim.text_form, victim.head)
        if clean[0].language != language:
            raise UserError(f"{path}: rows in {clean[0].language}, but the files are in {language}")
        check_lengths(path, victim, clean, is_explicit=options["max_length"] is not None)
    else:
        notes.append("without --clean rows the model's confidence is used as it is, on a scale that its author chose")
    return checkpoint_view(victim, options["task"], language, clean, {"infiller": infiller}), notes


def _infiller(victim: Victim, options: SanitizeOptions, language: Language) -> tuple[Path, list[str]]:
    """The folder of the infiller, which must have a mask token, and notes on how well it fits the model."""
    from codebackdoor.victims.checkpoints import check_safetensors
    from codebackdoor.victims.tokenizer_loading import load_tokenizer

    folder = SHIPPED_ENCODER if options["infiller"] is None else Path(options["infiller"])
    if options["infiller"] is None and not folder.is_dir():
        raise UserError("no infiller comes with this installation; name a masked language model with --infiller")
    check_safetensors(folder)
    tokenizer = load_tokenizer(folder)
    if tokenizer.mask_token_id is None:
        raise UserError(f"{folder}: the infiller's tokenizer has no mask token; name a masked language model")
    notes = []
    if options["infiller"] is None and language != "python":
        notes.append(f"the shipped infiller was pretrained on Python, not on {language}; name another with --infiller")
    if tokenizer.get_vocab() != victim.tokenizer.get_vocab():
        notes.append(
            "the infiller's vocabulary is not the model's: an element gets as many masks as the infiller has sub-tokens"
        )
    return folder, notes


def _lengths(victim: Victim, inputs: Sequence[Sequence[SourceFunction]]) -> list[int]:
    """Sub-tokens of the longest function of each input."""
    from codebackdoor.victims.victim import LONGEST

    unlimited = replace(victim, max_length=LONGEST)
    return [max(len(text.ids) for text in unlimited.encode([part.code for part in group])) for group in inputs]


def _purified(threshold: float) -> PurifiedInputs:
    if math.isfinite(threshold):
        return "below"
    return "all" if threshold > 0 else "none"


def _touched(functions: Sequence[SourceFunction], row: Purified) -> list[tuple[SourceFunction, list[Span], str]]:
    """For each function of an input, the replaced spans of its code, and the new code."""
    codes = (("code", row.example.code), ("code_b", row.example.code_b))
    return [
        (function, [span for span in row.touched if span.field == field], str(code))
        for function, (field, code) in zip(functions, codes, strict=False)
    ]


def _edits(functions: Sequence[SourceFunction], row: Purified) -> list[tuple[SourceFunction, list[Edit]]]:
    """For each function of an input, the edits of its file."""
    return [(function, function.edits(spans, code)) for function, spans, code in _touched(functions, row)]


def _parses(functions: Sequence[SourceFunction], row: Purified) -> bool | None:
    """Whether the functions in which something was replaced still parse; None if none of them did before."""
    parsed = [part for part in _touched(functions, row) if part[1] and not part[0].is_broken]
    return all(function.parses_with(spans, code) for function, spans, code in parsed) if parsed else None


def _finding(
    functions: Sequence[SourceFunction],
    row: Purified,
    edits: Sequence[tuple[SourceFunction, Sequence[Edit]]],
    labels: tuple[int | None, int | None],
    lengths: tuple[int, int],
) -> InputFinding:
    """The finding about one input; ``labels``: before and after; ``lengths``: the part that is read, and the total."""
    detail: Mapping[str, Any] = row.detail
    top = detail["top"] or {}
    first, *rest = functions
    lines = {function.line_of(start) for function, part in edits for start, _, _ in part}
    return InputFinding(
        file=first.source.name,
        name=first.name,
        line=first.line,
        name_b=rest[0].name if rest else None,
        suspicious=bool(detail["poisoned"]),
        kind=top.get("kind"),
        element=top.get("text"),
        effect=top.get("score"),
        entropy=detail["entropy"],
        # in a pair, the element may have been replaced in only one of the functions
        replaced=bool(row.touched) and len(row.touched) == len(top["places"]),
        parses=_parses(functions, row),
        lines=tuple(sorted(lines)),
        label=labels[0],
        label_after=labels[1],
        read=lengths[0],
        length=lengths[1],
    )


def _notes_on(inputs: Sequence[Sequence[SourceFunction]], findings: Sequence[InputFinding]) -> list[str]:
    notes = [
        f"{function}: the parser had to skip a part, so elements in it may be missed"
        for group in inputs
        for function in group
        if function.is_broken
    ]
    return notes + [
        f"{finding.file}:{finding.line}: {finding.name}: the model reads {finding.read} of {finding.length} "
        "sub-tokens; what comes after them was not examined"
        for finding in findings
        if finding.read < finding.length
    ]
