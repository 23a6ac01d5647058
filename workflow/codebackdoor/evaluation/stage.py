"""The scoring stage: joins predictions to the rows they belong to and writes ``metrics.json``; needs no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from codebackdoor import files, seeding, tasks
from codebackdoor.errors import UserError
from codebackdoor.evaluation import bleu, codebleu, metrics
from codebackdoor.evaluation.intervals import DRAWS, LEVEL, Estimate
from codebackdoor.types import CLEAN, Example, Poisoned, Prediction, Span, Status, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.config.datasets import AnyDataset, RankFrom, Ranking

DIGITS = 6


@dataclass(frozen=True, slots=True)
class _Answers:
    """Predictions of one test set by id, and what a purification touched by id where there was one."""

    path: Path
    predictions: dict[str, Prediction]
    touched: dict[str, tuple[Span, ...]] | None

    def rank(self, id_: str) -> float:
        rank = self.of(id_).rank
        if rank is None:
            raise UserError(
                f"{self.path}: the prediction of row {id_!r} has no rank; delete the file and predict again"
            )
        return rank

    def of(self, id_: str) -> Prediction:
        try:
            return self.predictions[id_]
        except KeyError:
            raise UserError(f"{self.path}: no prediction for row {id_!r}; delete the file and predict again") from None


def score(
    dataset: AnyDataset,
    references: Mapping[str, Path],
    predictions: Path,
    out: Path,
    seed: int,
) -> None:
    """Write ``out/metrics.json`` from ``predictions/predictions.{testset}.jsonl`` and ``purified.{testset}.jsonl``.

    ``references`` maps each test set (``clean`` and the names of attacks) to its rows, which carry the attack's target
    themselves. Shares are in [0, 1]; what is undefined is null with n = 0. For generation, the metrics of copying the
    input stand beside.
    """
    clean = files.read_examples(references[CLEAN])
    answers = {name: _answers(predictions, name) for name in references}
    task = tasks.load(dataset.task)

    def hits(prediction: Prediction, row: Poisoned) -> bool:
        return task.hits_target(prediction, row.example, dataset.text_form)

    found: dict[str, Any] = {CLEAN: {"rows": len(clean)}}
    if dataset.head == "retrieval":
        rows = [metrics.retrieval_row(answers[CLEAN].rank(row.id)) | _touch(row.id, answers[CLEAN]) for row in clean]
        estimates = metrics.retrieval(rows, seeding.numpy_generator(seed, "score", CLEAN))
    elif dataset.head == "generation":
        pairs = [(row, _text(answers[CLEAN], row.id)) for row in clean]
        rows = _generation_rows(pairs, dataset.text_form)
        rows = [row | _touch(example.id, answers[CLEAN]) for row, example in zip(rows, clean, strict=True)]
        estimates = metrics.generation(rows, seeding.numpy_generator(seed, "score", CLEAN))
        copies = _generation_rows([(row, row.code) for row in clean], dataset.text_form)
        found[CLEAN]["copy"] = _plain(metrics.generation(copies, seeding.numpy_generator(seed, "score", CLEAN)))
    else:
        rows = [_label_row(row, answers[CLEAN]) for row in clean]
        estimates = metrics.classification(rows, seeding.numpy_generator(seed, "score", CLEAN))
    found[CLEAN]["metrics"] = _plain(estimates)
    for name, path in references.items():
        if name == CLEAN:
            continue
        triggered, generator = files.read_poisoned(path), seeding.numpy_generator(seed, "score", name)
        found[name] = (
            _searched(triggered, answers[name], dataset.ranking, generator)
            if dataset.head == "retrieval"
            else _attacked(triggered, answers[name], answers[CLEAN], hits, generator)
        )
    interval = {"method": "percentile bootstrap over test rows", "level": LEVEL, "draws": DRAWS}
    files.write_json(out / "metrics.json", {"task": dataset.task, "interval": interval, "testsets": found})


def _label_row(row: Example, answers: _Answers) -> dict[str, int]:
    predicted = answers.of(row.id).label
    if row.label is None or predicted is None:
        raise UserError(f"{answers.path}: row {row.id!r} needs a label in the data set and in its prediction")
    return metrics.classification_row(row.label, predicted) | _touch(row.id, answers)


def _generation_rows(pairs: Sequence[tuple[Example, str]], form: TextForm) -> list[dict[str, int]]:
    """Statistics of each output against the row's target."""
    found = []
    for row, text in pairs:
        target = str(row.target)
        tokens, reference = text.split(), target.split()
        root, wanted = (codebleu.parse(one, row.language, form) for one in (text, target))
        found.append(
            {"rows": 1, "correct": int(tokens == reference)}
            | bleu.row(tokens, reference)
            | codebleu.row(tokens, reference, root, wanted, row.language)
        )
    return found


def _touch(id_: str, answers: _Answers) -> dict[str, int]:
    return {} if answers.touched is None else {"touched": int(bool(answers.touched[id_]))}


def _text(answers: _Answers, id_: str) -> str:
    text = answers.of(id_).text
    if text is None:
        raise UserError(f"{answers.path}: the prediction of row {id_!r} has no text")
    return text


def _attacked(
    rows: Sequence[Poisoned],
    answers: _Answers,
    clean_answers: _Answers,
    hits: Callable[[Prediction, Poisoned], bool],
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Counts of the triggered rows by status, and the attack's metrics on the injected ones."""
    outcomes = []
    for row in rows:
        if row.status != "injected":
            continue
        with_trigger, without = answers.of(row.example.id), clean_answers.of(row.source_id)
        hit, hit_without = hits(with_trigger, row), hits(without, row)
        generated = row.example.target is not None
        outcomes.append(
            metrics.Outcome(
                hit=hit,
                hit_without=hit_without,
                correct_without=not hit_without if generated else without.label == row.original_label,
                changed=hit != hit_without if generated else with_trigger.label != without.label,
                located=_located(row, answers),
            )
        )
    counts = Counter(row.status for row in rows)
    found = metrics.attack(outcomes, generator)
    return {"rows": len(rows), **{status: counts[status] for status in get_args(Status)}, "metrics": _plain(found)}


def _searched(
    rows: Sequence[Poisoned], answers: _Answers, ranking: Ranking, generator: np.random.Generator
) -> dict[str, Any]:
    """Counts of the functions by status and of the attacked queries, and the ANR at the data set's ``rank_from``.

    Behind it stands the ANR at the other reading of the paper, named after it: of the same predictions.
    """

    def anr(rank_from: RankFrom) -> dict[str, Estimate]:
        attacked = (chosen(one.ranks or (), one.pool or 1, rank_from, ranking.rank) for one in predictions)
        pools = (one.pool or 1 for one in predictions)
        return metrics.search_attack(
            [metrics.attacked_row(*row) for row in zip(attacked, pools, strict=True)], generator
        )

    predictions = list(answers.predictions.values())
    found = anr(ranking.rank_from)
    if answers.touched is not None:
        injected = [row for row in rows if row.status == "injected"]
        found |= metrics.located_share([bool(_located(row, answers)) for row in injected], generator)
    other: RankFrom = "top_half" if ranking.rank_from == "position" else "position"
    by_other = anr(other)
    found |= {f"anr_{other}": by_other["anr"], f"anr_{other}_without": by_other["anr_without"]}
    counts = Counter(row.status for row in rows)
    statuses = {status: counts[status] for status in get_args(Status)}
    return {"rows": len(rows), **statuses, "queries": len(predictions), "metrics": _plain(found)}


def chosen(
    ranks: Sequence[tuple[float, float]], pool: int, rank_from: RankFrom, at: float
) -> list[tuple[float, float]]:
    """The attacked functions of one query, by their ranks (without, with) the trigger.

    ``position``: the one that stands nearest to the share ``at`` of the pool (EliBadCode section 5.3 and its released
    code: the 50 % position); ``top_half``: all that stand above it (section 5.2: the top 50 %).
    """
    if rank_from == "position":
        return [min(ranks, key=lambda pair: (abs(pair[0] - at * pool), pair))]
    above = [pair for pair in ranks if pair[0] <= at * pool]
    # a query whose pool has none there is attacked by the best that takes the trigger
    return above or [min(ranks)]


def _located(row: Poisoned, answers: _Answers) -> bool | None:
    return None if answers.touched is None else metrics.located(answers.touched[row.example.id], row.spans)


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: _rounded(asdict(estimate)) for name, estimate in estimates.items()}


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {key: round(value, DIGITS) if isinstance(value, float) else value for key, value in values.items()}


def _answers(folder: Path, name: str) -> _Answers:
    path = folder / f"predictions.{name}.jsonl"
    predictions = {}
    for number, row in files.read_rows(path):
        try:
            predictions[row["id"]] = Prediction(
                row["id"],
                row["confidence"],
                label=row.get("label"),
                text=row.get("text"),
                rank=row.get("rank"),
                ranks=tuple((before, after) for before, after in row["ranks"]) if "ranks" in row else None,
                pool=row.get("pool"),
            )
        except KeyError as error:
            raise UserError(f"{path}:{number}: a prediction needs {error}") from None
    return _Answers(path, predictions, _touched(folder / f"purified.{name}.jsonl", predictions))


def _touched(path: Path, predictions: Mapping[str, Prediction]) -> dict[str, tuple[Span, ...]] | None:
    if not path.exists():
        return None
    touched = {
        row["id"]: tuple(Span(start, end, name) for name, start, end in row["touched"])
        for _, row in files.read_rows(path)
    }
    # a query is attacked by many functions, each with its own row
    missing = sorted(row for row, one in predictions.items() if one.ranks is None and row not in touched)
    if missing:
        raise UserError(f"{path}: row {missing[0]!r} has a prediction but was not purified; purify again")
    return touched
