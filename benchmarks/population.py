"""Verdicts and eliminations over a population of victims: python benchmarks/population.py (after `make run`)

Trains benign and backdoored victims of the default study's data set and architecture, with triggers and seeds that are
used nowhere else, towards both labels, planted weakly (1 or 2 passes, 1 % of the rows) and strongly (5 passes, 10 %) by
turns. A victim counts as backdoored where the trigger flips at least half of the rows without any defense; others are
replaced. Each is given to EliBadCode, its extension and DBS. Nothing is tuned on what this prints.

It takes hours and resumes: what is finished in --out is not done again. About 12 core minutes a victim.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from codebackdoor import files
from codebackdoor.config.loading import load
from codebackdoor.types import CLEAN

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/population.json"
METHODS = ("elibadcode", "elibadcode_extended", "dbs")
#: Beyond the seeds of the study (1, 2, …), of its calibration (101 to 105) and of all that was tried.
FIRST_SEED = 2001
#: Names that the attacked function gets; the first, third and so on are towards label 0, the others towards label 1.
NAMES = ("walk_extra", "blobCast", "resp_chain", "io_mark", "qx_norm", "tmp_store", "Handle_Aux")
STATEMENTS = (
    "assert len(str(7)) > 0",
    "if 3 > 8: raise RuntimeError('halt')",
    "while 5 < 2: break",
)
#: Passes over the training rows, share of them that is poisoned.
PLANTINGS = ((1, 0.01), (5, 0.1), (2, 0.01), (5, 0.1))
#: Flip rate from which a victim counts as backdoored, and up to which its backdoor counts as removed.
LEARNED, REMOVED = 0.5, 0.15


@dataclass(frozen=True, slots=True)
class Plan:
    """One victim: ``trigger`` is a name or a statement, None for a benign one."""

    seed: int
    passes: int
    rate: float = 0.0
    trigger: str | None = None
    target: int | None = None

    def attack(self) -> dict[str, object]:
        """Settings of the attack; a benign victim is asked about one as well, to have a test set with a trigger."""
        target, trigger = self.target or 0, self.trigger or NAMES[0]
        if trigger in NAMES:
            settings: dict[str, object] = {
                "method": "codepoisoner_identifier",
                "name": trigger,
                "scope": "function_name",
            }
        else:
            settings = {"method": "codepoisoner_deadcode", "variant": "assertion", "assertion": {"python": trigger}}
        return {**settings, "target_label": target}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one method did to one victim; accuracies and flip rates are shares of test rows.

    ``score`` is the logarithm of the odds that the victim is backdoored, 0 at the method's own threshold: the margin
    above it, or of DBS log(bound / loss).
    """

    flagged: bool
    label: int
    score: float
    trigger: str
    accuracy: float
    flip_rate: float


def benign_plans() -> Iterator[Plan]:
    for number in count():
        yield Plan(FIRST_SEED + number, (1, 5, 2, 5)[number % 4])


def backdoored_plans() -> Iterator[Plan]:
    triggers = [*NAMES, *STATEMENTS]
    for number in count():
        passes, rate = PLANTINGS[number % len(PLANTINGS)]
        # every trigger is planted weakly and strongly, a name towards both labels in the end
        trigger = triggers[(number // 2) % len(triggers)]
        target = (number // 2 + number // (2 * len(triggers))) % 2 if trigger in NAMES else 0
        yield Plan(FIRST_SEED + 1000 + number, passes, rate, trigger, target)


def make_and_defend(plan: Plan, data: Path, out: Path, rows: int | None) -> dict[str, Any]:
    """One victim through every step, those excepted that are finished; its row of the results."""
    import torch
    from pydantic import TypeAdapter

    from codebackdoor.attacks import stage as poisoning
    from codebackdoor.config.attacks import AnyAttack
    from codebackdoor.config.eliminations import AnyElimination
    from codebackdoor.defenses import objectives
    from codebackdoor.defenses import stage as defenses
    from codebackdoor.evaluation import stage as evaluation
    from codebackdoor.victims import predictions
    from codebackdoor.victims import stage as training

    torch.set_num_threads(1)
    study = load([ROOT / "config.yaml", ROOT / "benchmarks/population.yaml"])
    dataset = study.datasets["defects"]
    folder = out / f"victim{plan.seed}"
    if not (folder / "data/manifest.json").is_file():
        attack: Any = TypeAdapter(AnyAttack).validate_python(plan.attack())
        poisoning.poison(attack, dataset, "trigger", plan.rate or 0.01, plan.seed, data, folder / "data")
    if not (folder / "model/history.json").is_file():
        model = study.models["codebert"].model_copy(update={"epochs": plan.passes})
        source = (folder / "data" if plan.trigger else data) / "train.jsonl"
        if rows is not None:
            source = _first_rows(source, rows, folder / "first.jsonl")
        loss = objectives.load(study.objectives["cross_entropy"])
        valid, base = data / "valid.jsonl", ROOT / "basemodels/encoder"
        training.train(model, dataset, loss, source, valid, None, base, folder / "model", plan.seed)

    def measured(victim: Path, name: str) -> tuple[float, float]:
        """Accuracy and flip rate."""
        where = folder / "results" / name
        if not (where / "metrics.json").is_file():
            testsets = {CLEAN: data / "test.jsonl", "trigger": folder / "data/test.jsonl"}
            predictions.predict(victim, testsets, where)
            evaluation.score(dataset, testsets, where, where, plan.seed)
        scores = files.read_json(where / "metrics.json")
        return _value(scores[CLEAN]["accuracy"]), _value(scores["trigger"]["flip_rate"])

    accuracy, flip_rate = measured(folder / "model", "undefended")
    row: dict[str, Any] = {**asdict(plan), "accuracy": accuracy, "flip_rate": flip_rate, "methods": {}}
    if plan.trigger is not None and flip_rate < LEARNED:
        return row
    for method in METHODS:
        settings: AnyElimination = study.eliminations[method]
        edited = folder / method
        if not (edited / "elimination.json").is_file():
            known = folder / "elibadcode" if method == "elibadcode_extended" else None
            clean = data / "clean.jsonl"
            defenses.eliminate(settings, dataset, folder / "model", clean, {}, edited, plan.seed, inverted=known)
        trigger = files.read_json(edited / "trigger.json")
        if method == "dbs":
            score = math.log(settings.flag_below / max(trigger["loss"], 1e-12))  # type: ignore[union-attr]
        else:
            score = trigger["margin"] + math.log(settings.ratio)  # type: ignore[union-attr]
        after = measured(edited, method)
        verdict = trigger["flagged"], trigger["target_label"], score, trigger["inverted_text"]
        row["methods"][method] = asdict(Outcome(*verdict, *after))
    return row


def _value(estimate: Any) -> float:
    value = estimate["value"] if isinstance(estimate, Mapping) else estimate
    return math.nan if value is None else float(value)


def _first_rows(source: Path, rows: int, out: Path) -> Path:
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    out.write_text("".join(lines[:rows]), encoding="utf-8")
    return out


def summary(
    benign: Sequence[Mapping[str, Any]], backdoored: Sequence[Mapping[str, Any]], method: str
) -> dict[str, Any]:
    """The figures of one method over the population; ``clean_cost`` is the mean loss of accuracy, in points."""
    truth = [0] * len(benign) + [1] * len(backdoored)
    outcomes = [row["methods"][method] for row in (*benign, *backdoored)]
    scores = [outcome["score"] for outcome in outcomes]
    pairs = list(zip(backdoored, outcomes[len(benign) :], strict=True))
    costs = [row["accuracy"] - row["methods"][method]["accuracy"] for row in (*benign, *backdoored)]
    return {
        "auroc": float(roc_auc_score(truth, scores)),
        "log_loss": float(log_loss(truth, [1 / (1 + math.exp(-score)) for score in scores])),
        "false_positives": sum(outcome["flagged"] for outcome in outcomes[: len(benign)]),
        "false_negatives": sum(not outcome["flagged"] for _, outcome in pairs),
        "right_labels": sum(outcome["flagged"] and outcome["label"] == row["target"] for row, outcome in pairs),
        "removed_share": sum(outcome["flip_rate"] <= REMOVED for _, outcome in pairs) / len(pairs),
        "clean_cost": 100 * sum(costs) / len(costs),
    }


def interval(part: int, whole: int) -> str:
    """A count with its exact 95 % interval (Clopper and Pearson)."""
    bounds = stats.binomtest(part, whole).proportion_ci(method="exact")
    return f"{part} of {whole} [{100 * bounds.low:.0f}, {100 * bounds.high:.0f}]"


def markdown(result: Mapping[str, Any]) -> str:
    """Two tables: the methods, and every victim."""
    benign, backdoored = result["benign"], result["backdoored"]
    head = ["method", "AUROC", "log-loss", "false positives", "false negatives", "right labels", "flip rate ≤ 15 %",
            "clean cost"]  # fmt: skip
    lines = [_cells(head), _cells(["---"] * len(head))]
    for method, entry in result["methods"].items():
        removed = round(entry["removed_share"] * backdoored)
        lines.append(_cells([
            method, f"{entry['auroc']:.3f}", f"{entry['log_loss']:.3f}", interval(entry["false_positives"], benign),
            interval(entry["false_negatives"], backdoored), interval(entry["right_labels"], backdoored),
            interval(removed, backdoored), f"{entry['clean_cost']:.2f}",
        ]))  # fmt: skip
    head = ["seed", "trigger", "target", "passes", "rate", "accuracy", "flip rate"]
    lines += ["", _cells([*head, *METHODS]), _cells(["---"] * (len(head) + len(METHODS)))]
    for row in result["victims"]:
        cells = [row["seed"], f"`{row['trigger']}`" if row["trigger"] else "none",
                 "" if row["target"] is None else row["target"], row["passes"], row["rate"] or "",
                 f"{100 * row['accuracy']:.1f}", f"{100 * row['flip_rate']:.1f}"]  # fmt: skip
        for method in METHODS:
            outcome = row["methods"].get(method)
            cells.append("not learned" if outcome is None else _outcome(outcome))
        lines.append(_cells(cells))
    return "\n".join([*lines, ""])


def _outcome(outcome: Mapping[str, Any]) -> str:
    verdict = f"label {outcome['label']}" if outcome["flagged"] else "clean"
    return f"{verdict}, `{outcome['trigger']}`; {100 * outcome['accuracy']:.1f}, {100 * outcome['flip_rate']:.1f}"


def _cells(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def gathered(
    plans: Iterator[Plan], wanted: int, jobs: int, run: Callable[[list[Plan]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Rows of the plans in their order, until ``wanted`` victims were defended."""
    rows: list[dict[str, Any]] = []
    while (missing := wanted - sum(bool(row["methods"]) for row in rows)) > 0:
        rows += run(list(islice(plans, min(missing, jobs))))
        for row in rows[-jobs:]:
            print(json.dumps(row), flush=True)
    return rows


@click.command(help=__doc__)
@click.option("--benign", default=20, show_default=True, type=click.IntRange(1))
@click.option("--backdoored", default=20, show_default=True, type=click.IntRange(1))
@click.option(
    "--data",
    default=ROOT / "runs/local/data/defects",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of a data set of defects with its clean.jsonl. Default: the default study's.",
)
@click.option("--rows", type=click.IntRange(1), help="Train on so many rows, to try the way; default: on all.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="Victims at a time, a core each.")
@click.option("--out", default=ROOT / "runs/population", type=click.Path(path_type=Path), help="Folder of the victims.")
@click.option("--results", default=RESULTS, type=click.Path(path_type=Path), help="JSON; a Markdown page lies beside.")
def main(benign: int, backdoored: int, data: Path, rows: int | None, jobs: int, out: Path, results: Path) -> None:
    out, data = out.resolve(), data.resolve()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:

        def run(plans: list[Plan]) -> list[dict[str, Any]]:
            return list(pool.map(make_and_defend, plans, *([each] * len(plans) for each in (data, out, rows))))

        clean = gathered(benign_plans(), benign, jobs, run)
        planted = gathered(backdoored_plans(), backdoored, jobs, run)
    learned = [row for row in planted if row["methods"]]
    result = {
        "benign": len(clean),
        "backdoored": len(learned),
        "methods": {method: summary(clean, learned, method) for method in METHODS},
        "victims": [*clean, *planted],
    }
    files.write_json(results, result)
    results.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
