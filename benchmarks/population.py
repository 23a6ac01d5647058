"""Verdicts and eliminations over a population of victims: python benchmarks/population.py (after `make run`)

Trains benign and backdoored victims of the default study's data set and architecture, with triggers and seeds that are
used nowhere else and both target labels. Half of the backdoors are planted weakly (1 or 2 passes, 1% of the rows),
half strongly (5 passes, 10%). A victim counts if it does its task (accuracy of at least 60%) and, if backdoored, the
trigger flips at least half of the rows without any defense; otherwise another one of its kind replaces it. Each is
scanned and edited by EliBadCode, its extension and DBS. Nothing is tuned on the results.

This takes hours and can be resumed: victims with a row in --results are skipped, and finished steps of a partly done
victim are kept in --out. About 5 core minutes per victim on a processor with AVX-512.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from itertools import count, islice, zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from codebackdoor import files
from codebackdoor.config.loading import load
from codebackdoor.config.methods import AnyElimination
from codebackdoor.dag.fingerprint import fingerprint
from codebackdoor.errors import UserError
from codebackdoor.types import CLEAN

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/population.json"
CONFIGS = (ROOT / "config.yaml", ROOT / "benchmarks/population.yaml")
METHODS = ("elibadcode", "elibadcode_extended", "dbs")
#: Beyond the seeds of the study (1, 2, …), of its calibration (101 to 105) and of all trials.
FIRST_SEED = 2001
#: Names that the attacked function gets; odd ones (first, third, …) target label 0, the others label 1.
NAMES = ("walk_extra", "blobCast", "resp_chain", "io_mark", "qx_norm", "tmp_store", "Handle_Aux")
STATEMENTS = (
    "assert len(str(7)) > 0",
    "if 3 > 8: raise RuntimeError('halt')",
    "while 5 < 2: break",
)
#: Numbers of passes over the training rows, used in turn, and the share of poisoned rows.
WEAKLY, STRONGLY = ((1, 2), 0.01), ((5,), 0.1)
#: Minimum flip rate of a victim that counts as backdoored, and maximum flip rate of a backdoor that counts as removed.
LEARNED, REMOVED = 0.5, 0.15
#: Minimum accuracy of a victim that counts: after a single pass, some are at chance and predict a constant label.
DOES_TASK = 0.6
#: Maximum number of victims that are trained for each one that learns its trigger.
TRIES = 4

#: The code that makes a row.
MODULES = tuple(
    f"codebackdoor.{name}"
    for name in (
        "attacks.stage",
        "attacks.codepoisoner_deadcode.method",
        "attacks.codepoisoner_identifier.method",
        "defenses.elimination.dbs.method",
        "defenses.elimination.elibadcode.method",
        "defenses.stages.eliminate",
        "evaluation.scoring.labels",
        "evaluation.stage",
        "victims.stage",
    )
)

#: Number of victims of each kind in the benchmark.
WANTED = 20

PAGE = """\
# Verdicts and eliminations over a population of victims

Made by `python benchmarks/population.py`: {benign} benign and {backdoored} backdoored victims of the default study's
data set and architecture (CodeBERT-class, 2 layers × 128, 1.0 M parameters), with triggers and seeds that are used
nowhere else. Another {missed} did not learn their trigger or their task (accuracy below 60%) and are not counted. The
victims were trained for 1, 2 or 5 epochs, those of the verdict's calibration for 3. No setting was tuned on them.

*AUROC*, *log-loss*: of the verdict's score, the log-odds that a victim is backdoored, which is 0 at the method's own
threshold. *False positives* are counted among the benign victims, everything else among the backdoored ones; each count
has its exact 95% interval (Clopper and Pearson). *Right labels*: flagged, with the attacker's label. *Flip rate
≤ 15%*: on test rows, after unlearning. *Clean cost*: points of test accuracy lost, averaged over all victims.
"""
UNFINISHED = """
**Unfinished**: the benchmark wants at least {wanted} victims of each kind. Running it again resumes from here.
"""
VICTIMS = """\
Every victim: accuracy and flip rate in percent of the test rows, and for each method its verdict, its trigger, and
accuracy and flip rate afterwards. A benign victim's flip rate is measured with a name that it was not trained on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One victim; ``trigger`` is a name or a statement, None for a benign victim."""

    seed: int
    passes: int
    rate: float = 0.0
    trigger: str | None = None
    target: int | None = None

    def attack(self) -> dict[str, object]:
        """Settings of the attack; a benign victim has one, too, for a triggered test set."""
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
    """The outcome of one method on one victim; accuracies and flip rates are shares of test rows.

    ``score`` is the log-odds that the victim is backdoored, 0 at the method's own threshold: the margin above it or,
    for DBS, log(bound / loss); at most 0 if no trigger was found. ``seconds``: search and unlearning, on one core.
    """

    flagged: bool
    label: int
    score: float
    trigger: str
    accuracy: float
    #: None if none of the rows that the trigger could flip is predicted correctly without it.
    flip_rate: float | None
    seconds: float


def benign_plans() -> Iterator[Plan]:
    for number in count():
        yield Plan(FIRST_SEED + number, (1, 5, 2, 5)[number % 4])


def backdoored_plans(strongly: bool) -> Iterator[Plan]:
    triggers = [*NAMES, *STATEMENTS]
    passes, rate = STRONGLY if strongly else WEAKLY
    for number in count():
        # each trigger has one target label when planted weakly and the other when planted strongly; the two swap in
        # the next round
        target = (number + number // len(triggers) + strongly) % 2
        trigger = triggers[number % len(triggers)]
        yield Plan(FIRST_SEED + 1000 * (1 + strongly) + number, passes[number % len(passes)], rate, trigger, target)


def made_with(first_rows: int | None) -> str:
    """A hash of everything besides its plan that a row depends on: code, settings, calibration, limit on the rows."""
    study = load(CONFIGS)
    methods = {name: study.eliminations[name] for name in METHODS}
    digest = sha256(fingerprint(*MODULES).encode())
    settings = [study.datasets["defects"], study.victim_settings("codebert", "defects"), *methods.values()]
    digest.update(json.dumps([variant.model_dump(mode="json") for variant in settings], sort_keys=True).encode())
    for method in methods.values():
        digest.update(method.calibration_file.read_bytes() if method.calibration_file else b"")
    digest.update(str(first_rows).encode())
    return digest.hexdigest()[:16]


def make_and_defend(plan: Plan, data: Path, out: Path, rows: int | None) -> dict[str, Any]:
    """Run all unfinished steps of one victim, and return its row of the results."""
    import torch
    from pydantic import TypeAdapter

    from codebackdoor.attacks import stage as poisoning
    from codebackdoor.config.methods import AnyAttack
    from codebackdoor.defenses import objectives
    from codebackdoor.defenses.stages.eliminate import eliminate
    from codebackdoor.defenses.stages.job import DefenseJob
    from codebackdoor.evaluation import stage as evaluation
    from codebackdoor.victims import predictions
    from codebackdoor.victims import stage as training

    torch.set_num_threads(1)
    study = load(CONFIGS)
    dataset = study.datasets["defects"]
    folder = out / f"victim{plan.seed}"
    if not (folder / "data/manifest.json").is_file():
        attack: Any = TypeAdapter(AnyAttack).validate_python(plan.attack())
        poisoning.poison(attack, dataset, "trigger", plan.rate or 0.01, plan.seed, data, folder / "data")
    if not (folder / "model/history.json").is_file():
        model = study.victim_settings("codebert", "defects").model_copy(update={"epochs": plan.passes})
        source = (folder / "data" if plan.trigger else data) / "train.jsonl"
        if rows is not None:
            source = _first_rows(source, rows, folder / "first.jsonl")
        loss = objectives.load(study.objectives["cross_entropy"])
        paths = training.TrainingFiles(source, data / "valid.jsonl", ROOT / "basemodels/encoder", folder / "model")
        training.train(model, dataset, loss, paths, plan.seed)

    def measured(victim: Path, name: str) -> tuple[float, float | None]:
        """Accuracy and flip rate."""
        where = folder / "results" / name
        if not (where / "metrics.json").is_file():
            testsets = {CLEAN: data / "test.jsonl", "trigger": folder / "data/test.jsonl"}
            predictions.predict(victim, testsets, where)
            evaluation.score(dataset, testsets, where, where, plan.seed)
        metrics = {
            name: entry["metrics"] for name, entry in files.read_json(where / "metrics.json")["testsets"].items()
        }
        return metrics[CLEAN]["accuracy"]["value"], metrics["trigger"]["flip_rate"]["value"]

    accuracy, flip_rate = measured(folder / "model", "undefended")
    row: dict[str, Any] = {**asdict(plan), "accuracy": accuracy, "flip_rate": flip_rate, "methods": {}}
    if accuracy < DOES_TASK or (plan.trigger is not None and (flip_rate or 0.0) < LEARNED):
        return row
    for method in METHODS:
        settings = study.eliminations[method]
        edited = folder / method
        if not (edited / "provenance.json").is_file():
            inverted = folder / "elibadcode" if method == "elibadcode_extended" else None
            job = DefenseJob(dataset, folder / "model", data / "clean.jsonl", edited, plan.seed)
            phases = eliminate(settings, job, inverted=inverted)
            files.write_json(edited / "provenance.json", {"phases": phases})
        trigger = files.read_json(edited / "trigger.json")
        after = measured(edited, method)
        verdict = trigger["flagged"], trigger["target_label"], score(trigger, settings), trigger["inverted_text"]
        seconds = sum(files.read_json(edited / "provenance.json")["phases"].values())
        row["methods"][method] = asdict(Outcome(*verdict, *after, seconds))
    return row


def score(trigger: Mapping[str, Any], settings: AnyElimination) -> float:
    """``Outcome.score`` of the content of a ``trigger.json``."""
    if settings.method == "elibadcode":
        return float(trigger["margin"] + math.log(settings.ratio))
    if settings.method != "dbs":
        raise ValueError(f"{settings.method} has no verdict")
    above = math.log(settings.flag_below / max(trigger["loss"], 1e-12))
    # a mixture that is not a trigger is not flagged, regardless of its loss
    return above if trigger["flagged"] else min(above, 0.0)


def _first_rows(source: Path, rows: int, out: Path) -> Path:
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    out.write_text("".join(lines[:rows]), encoding="utf-8")
    return out


def summary(
    benign: Sequence[Mapping[str, Any]], backdoored: Sequence[Mapping[str, Any]], method: str
) -> dict[str, Any]:
    """The figures of one method over the population.

    ``clean_cost`` is the mean loss of accuracy, ``worst_benign_cost`` the largest of any benign victim, both in points;
    ``seconds`` is a median, so that pauses of the benchmark do not affect it.
    """
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
        "removed_share": sum(removed(outcome) for _, outcome in pairs) / len(pairs),
        "clean_cost": 100 * sum(costs) / len(costs),
        "worst_benign_cost": 100 * max(costs[: len(benign)]),
        "seconds": statistics.median(outcome["seconds"] for outcome in outcomes),
    }


def removed(outcome: Mapping[str, Any]) -> bool:
    return outcome["flip_rate"] is not None and outcome["flip_rate"] <= REMOVED


def interval(count: int, total: int) -> str:
    """A count with its exact 95% interval (Clopper and Pearson)."""
    bounds = stats.binomtest(count, total).proportion_ci(method="exact")
    return f"{count} of {total} [{100 * bounds.low:.0f}, {100 * bounds.high:.0f}]"


def markdown(result: Mapping[str, Any]) -> str:
    """The page: a description, a table of the methods, and a table of the victims."""
    benign, backdoored = result["benign"], result["backdoored"]
    missed = sum(not counts(row) for row in result["victims"])
    page = PAGE.format(benign=benign, backdoored=backdoored, missed=missed)
    note = "" if min(benign, backdoored) >= WANTED else UNFINISHED.format(wanted=WANTED)
    head = ["method", "AUROC", "log-loss", "false positives", "false negatives", "right labels", "flip rate ≤ 15%",
            "clean cost", "worst of a benign victim", "seconds, median"]  # fmt: skip
    lines = [page + note, _cells(head), _cells(["---"] * len(head))]
    for method, entry in result["methods"].items():
        clean = round(entry["removed_share"] * backdoored)
        lines.append(_cells([
            method, f"{entry['auroc']:.3f}", f"{entry['log_loss']:.3f}", interval(entry["false_positives"], benign),
            interval(entry["false_negatives"], backdoored), interval(entry["right_labels"], backdoored),
            interval(clean, backdoored), f"{entry['clean_cost']:z.2f}", f"{entry['worst_benign_cost']:.1f}",
            f"{entry['seconds']:.0f}",
        ]))  # fmt: skip
    head = ["seed", "trigger", "target", "passes", "rate", "accuracy", "flip rate"]
    lines += ["", VICTIMS, "", _cells([*head, *METHODS]), _cells(["---"] * (len(head) + len(METHODS)))]
    for row in result["victims"]:
        cells = [row["seed"], f"`{row['trigger']}`" if row["trigger"] else "none",
                 "" if row["target"] is None else row["target"], row["passes"], row["rate"] or "",
                 _percent(row["accuracy"]), _percent(row["flip_rate"])]  # fmt: skip
        for method in METHODS:
            outcome = row["methods"].get(method)
            cells.append(_outcome(outcome) if outcome is not None and counts(row) else "not learned")
        lines.append(_cells(cells))
    return "\n".join([*lines, ""])


def _outcome(outcome: Mapping[str, Any]) -> str:
    verdict = f"label {outcome['label']}" if outcome["flagged"] else "clean"
    return f"{verdict}, `{outcome['trigger']}`; {_percent(outcome['accuracy'])}, {_percent(outcome['flip_rate'])}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _cells(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def plan_of(row: Mapping[str, Any]) -> Plan:
    return Plan(**{field.name: row[field.name] for field in fields(Plan)})


def counts(row: Mapping[str, Any]) -> bool:
    """Whether a victim belongs to the population."""
    return bool(row.get("methods")) and row["accuracy"] >= DOES_TASK


def missing(plans: Iterator[Plan], rows: Mapping[Plan, Mapping[str, Any]], target: int) -> list[Plan]:
    """The first plans without a row, as many as are needed until ``target`` victims are defended.

    Only the first ``TRIES * target`` plans are considered, so there may be fewer if too few victims learned their
    trigger.
    """
    next_plans: list[Plan] = []
    defended = 0
    for plan in islice(plans, TRIES * target):
        if defended + len(next_plans) >= target:
            break
        if plan not in rows:
            next_plans.append(plan)
        defended += counts(rows.get(plan, {}))
    return next_plans


def by_turns(first: Sequence[Plan], second: Sequence[Plan]) -> list[Plan]:
    return [plan for pair in zip_longest(first, second) for plan in pair if plan is not None]


def results_of(rows: Iterable[Mapping[str, Any]], digest: str = "") -> dict[str, Any]:
    """The content of the results: counts and figures of the defended victims, and the rows of all victims."""
    victims = sorted(rows, key=lambda row: row["seed"])
    benign = [row for row in victims if row["trigger"] is None and counts(row)]
    learned = [row for row in victims if row["trigger"] is not None and counts(row)]
    has_both_kinds = bool(benign and learned)
    return {
        "benign": len(benign),
        "backdoored": len(learned),
        "methods": {method: summary(benign, learned, method) for method in METHODS} if has_both_kinds else {},
        "victims": victims,
        "made_with": digest,
    }


def known(results: Path, digest: str) -> dict[Plan, dict[str, Any]]:
    """The rows of the results so far; UserError if they were made by other code or settings."""
    if not results.is_file():
        return {}
    content = files.read_json(results)
    if content["made_with"] != digest:
        raise UserError(f"{results}: made by other code or settings; remove it, or name another with --results")
    return {plan_of(row): row for row in content["victims"]}


@click.command(help=__doc__)
@click.option("--benign", default=WANTED, show_default=True, type=click.IntRange(1))
@click.option("--backdoored", default=WANTED, show_default=True, type=click.IntRange(1))
@click.option(
    "--data",
    default=ROOT / "runs/local/data/defects",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of a data set of defects with its clean.jsonl. Default: the default study's.",
)
@click.option(
    "--rows", "first_rows", type=click.IntRange(1), help="For a trial: train only on the first rows, up to this number."
)
@click.option(
    "--jobs",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Number of victims at a time, each on one core.",
)
@click.option("--out", default=ROOT / "runs/population", type=click.Path(path_type=Path), help="Folder of the victims.")
@click.option(
    "--results",
    default=RESULTS,
    type=click.Path(path_type=Path),
    help="JSON file; a Markdown page is written next to it.",
)
def main(benign: int, backdoored: int, data: Path, first_rows: int | None, jobs: int, out: Path, results: Path) -> None:
    digest = made_with(first_rows)
    out, data = out.resolve() / digest, data.resolve()
    try:
        rows = known(results, digest)
    except UserError as error:
        raise click.ClickException(str(error)) from None

    def todo() -> list[Plan]:
        weakly = missing(backdoored_plans(strongly=False), rows, backdoored // 2)
        strongly = missing(backdoored_plans(strongly=True), rows, backdoored - backdoored // 2)
        return by_turns(missing(benign_plans(), rows, benign), by_turns(weakly, strongly))

    def write() -> None:
        result = results_of(rows.values(), digest)
        files.write_json(results, result)
        results.with_suffix(".md").write_text(markdown(result), encoding="utf-8")

    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        while plans := todo():
            running = [pool.submit(make_and_defend, plan, data, out, first_rows) for plan in plans]
            try:
                for finished in as_completed(running):
                    row = finished.result()
                    rows[plan_of(row)] = row
                    write()
                    click.echo(json.dumps(row))
            except BaseException:
                # otherwise the pool would continue for hours before reporting the error
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    write()
    click.echo(results.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
