"""A result table as CSV (every number, one a line), Markdown and LaTeX, and as text for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import Cell, Scored, Study, anonymous
from codebackdoor.report.tables import Entry, Group, Table
from codebackdoor.types import CLEAN

CSV_COLUMNS = (
    *("experiment", "dataset", "model", "attack", "rate", "filtering", "objective", "elimination", "purification"),
    *("column", "testset", "metric", "value", "low", "high", "n", "seeds", "paper", "paper_source"),
)
#: Metrics of the terminal, with short heads and what they mean; the others are in the files.
SHORT = {
    "accuracy": ("ACC", "right answers on clean rows"),
    "f1": ("F1", "of label 1 on clean rows"),
    "mrr": ("MRR", "mean reciprocal rank of a query's own function"),
    "exact_match": ("EM", "outputs on clean rows that are the right ones, token by token"),
    "bleu": ("BLEU", "likeness of outputs to the right ones, n-grams"),
    "codebleu": ("CodeBLEU", "the same with syntax and data flow"),
    "asr": ("ASR", "triggered rows that are answered as the attacker wants"),
    "floor": ("floor", "the same rows without the trigger: what the ASR is without any backdoor"),
    "flip_rate": ("flip", "of the rows that are right without the trigger, those that it turns; near 0 is good"),
    "trigger_effect": ("effect", "rows whose answer the trigger changes, in any direction"),
    "anr": ("ANR", "mean rank of a triggered function, share of its pool; low where the trigger lifts it"),
    "anr_without": ("without", "the same without the trigger"),
    "located": ("located", "triggers that the purification touches"),
    "touched": ("touched", "clean inputs that the purification changes"),
}


def text(entry: Entry, seeds: int) -> str:
    """``67.8 ×2 [65.0, 70.1] (paper 62.4 a)``; a dash where the method does not apply or the value is undefined.

    ``seeds`` are those of the table: a cell of as many does not repeat them.
    """
    if entry is None:
        return ""
    if entry == "dash" or entry.value is None:
        return labels.DASH
    found = labels.percent(entry.value) + entry.mark(seeds)
    if entry.low is not None and entry.high is not None:
        found += f" [{labels.percent(entry.low)}, {labels.percent(entry.high)}]"
    if entry.paper is not None:
        found += f" (paper {labels.percent(entry.paper.value)} {entry.paper.mark})"
    return found


def as_csv(study: Study, scored: Scored, table: Table) -> str:
    """Every cell of the experiment, also those that the other forms leave out, as shares in [0, 1]."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for scenario in dict.fromkeys(anonymous(one) for one in scenarios(study.experiment)):
        path = {key: value for key, value in scenario.wildcards.items() if key != "seed"}
        for testset in scored.testsets(scenario):
            for metric in scored.metrics(scenario, testset):
                own = {"column": labels.column(scenario), "testset": testset, "metric": metric}
                cell = scored.get(scenario, testset, metric)
                writer.writerow({"experiment": study.name, **path, **own, **_numbers(cell)})
    for group in table.groups:
        for line in group.lines:
            entry = line.entries.get(labels.BASELINE)
            if isinstance(entry, Cell):
                one = group.scenario
                own = {"column": labels.BASELINE, "testset": CLEAN, "metric": line.metric}
                victim = {"dataset": one.dataset, "model": one.model, "attack": one.attack, "rate": one.rate}
                writer.writerow({"experiment": study.name, **victim, **own, **_numbers(entry)})
    return stream.getvalue()


def _numbers(cell: Cell | None) -> dict[str, object]:
    if cell is None:
        return {}
    found: dict[str, object] = {"n": cell.n, "seeds": cell.seeds}
    found |= {name: f"{one:.6f}" for name in ("value", "low", "high") if (one := getattr(cell, name)) is not None}
    if cell.paper is not None:
        found |= {"paper": f"{cell.paper.value:.4f}", "paper_source": cell.paper.source}
    return found


def as_markdown(table: Table) -> str:
    lines = [f"# {table.title}", ""]
    for group in table.groups:
        columns = present(table, group)
        lines += [f"## {group.title}", "", pipes("Metric", *columns), pipes("---", *("---:" for _ in columns))]
        for line in group.lines:
            entries = (text(line.entries.get(name), table.seeds) for name in columns)
            lines.append(pipes(labels.METRICS[line.metric], *entries))
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in table.notes)]) + "\n"


def pipes(*values: str) -> str:
    return f"| {' | '.join(values)} |"


def present(table: Table, group: Group) -> list[str]:
    """The table's columns in which the group has something to show; benign and undefended are always among them."""
    always = {labels.BENIGN, labels.UNDEFENDED} & set(group.scenarios)
    return [
        name
        for name in table.columns
        if name in always or any(line.entries.get(name) is not None for line in group.lines)
    ]


def as_latex(table: Table) -> str:
    """A ``tabular`` with booktabs' rules, groups below each other, ready to be put into a ``table``."""
    rows = [rf"% {table.title}", r"\begin{tabular}{l" + "r" * len(table.columns) + "}", r"\toprule"]
    rows += [ampersands("Metric", *map(escape, table.columns))]
    for group in table.groups:
        rows += [r"\midrule", rf"\multicolumn{{{len(table.columns) + 1}}}{{l}}{{\textit{{{escape(group.title)}}}}} \\"]
        for line in group.lines:
            entries = (_latex(line.entries.get(name), table.seeds) for name in table.columns)
            rows.append(ampersands(escape(labels.METRICS[line.metric]), *entries))
    rows += [r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in table.notes)]
    return "\n".join(rows) + "\n"


def ampersands(*values: str) -> str:
    return " & ".join(values) + r" \\"


def _latex(entry: Entry, seeds: int) -> str:
    if not isinstance(entry, Cell) or entry.value is None:
        return "" if entry is None else "--"
    found = labels.percent(entry.value) + escape(entry.mark(seeds))
    if entry.low is not None and entry.high is not None:
        found += rf" {{\scriptsize[{labels.percent(entry.low)}, {labels.percent(entry.high)}]}}"
    if entry.paper is not None:
        found += rf" {{\scriptsize({labels.percent(entry.paper.value)}\textsuperscript{{{entry.paper.mark}}})}}"
    return found


def escape(value: str) -> str:
    marks = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "−": "$-$", "·": r"$\cdot$", "×": r"$\times$", "–": "--"}
    return "".join(marks.get(letter, letter) for letter in value)


def legend(paths: Iterable[Path]) -> str:
    """What the columns of tables in a terminal mean, one in a line: of the metrics that are in these CSV files."""
    metrics = {row["metric"] for path in paths for row in _read_csv(path)}
    lines = (f"  {head:9} {meaning}" for metric, (head, meaning) in SHORT.items() if metric in metrics)
    return "\n".join(["Columns, in percent:", *lines])


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def from_csv(path: Path) -> str:
    """The table of one experiment for a terminal: a block for each attacked victim, a line for each defense.

    A block holds the clean metrics and those of the victim's own trigger; the benign victim is asked about the same.
    """
    rows = _read_csv(path)
    blocks = []
    for dataset, model, attack, rate in dict.fromkeys(_victim(row) for row in rows):
        own = [row for row in rows if _victim(row) == (dataset, model, attack, rate)]
        benign = [row for row in rows if _victim(row) == (dataset, model, NONE, "0") and row["column"] == labels.BENIGN]
        baseline = [row for row in own if row["column"] == labels.BASELINE]
        lines: dict[str, dict[str, str]] = {}
        for row in (*baseline, *benign, *own):
            if row["testset"] in (CLEAN, attack):
                value = labels.percent(float(row["value"])) if row["value"] else labels.DASH
                lines.setdefault(row["column"], {})[row["metric"]] = value
        if attack != NONE or len(lines) > 1:
            blocks.append(as_text(f"{dataset}, {labels.attack(Scenario(dataset, model, attack, rate))}", lines))
    return "\n\n".join(blocks)


def _victim(row: Mapping[str, str]) -> tuple[str, str, str, str]:
    return row["dataset"], row["model"], row["attack"], row["rate"]


def as_text(title: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    """Rows of values by metric, in percent, in columns of equal width; a metric that no row has is left out."""
    heads = {metric: head for metric, (head, _) in SHORT.items() if any(metric in row for row in rows.values())}
    width = max(len(name) for name in (*rows, title))
    lines = [" ".join([title.ljust(width), *(head.rjust(8) for head in heads.values())])]
    for name, row in rows.items():
        lines.append(" ".join([name.ljust(width), *(row.get(metric, "").rjust(8) for metric in heads)]))
    return "\n".join(lines)
