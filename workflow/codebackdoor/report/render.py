"""A result table as CSV (one number per line), Markdown and LaTeX, and as text for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import Cell, Results
from codebackdoor.report.study import Study, anonymous
from codebackdoor.report.tables.results import Entry, ResultTable, VictimGroup
from codebackdoor.types import CLEAN

CSV_COLUMNS = (
    *("experiment", "dataset", "model", "attack", "rate", "filtering", "objective", "elimination", "purification"),
    *("column", "testset", "metric", "value", "low", "high", "n", "seeds", "paper", "paper_source"),
)
#: The metrics that a terminal shows, with short names and explanations; files contain all metrics.
SHORT = {
    "accuracy": ("ACC", "correct predictions on clean rows"),
    "f1": ("F1", "of label 1 on clean rows"),
    "mrr": ("MRR", "mean reciprocal rank of a query's own function"),
    "exact_match": ("EM", "outputs on clean rows that are correct token by token"),
    "bleu": ("BLEU", "n-gram overlap of the outputs with the correct ones"),
    "codebleu": ("CodeBLEU", "BLEU combined with overlap of syntax and data flow"),
    "asr": ("ASR", "triggered rows that are predicted as the target"),
    "floor": ("floor", "the same rate without the trigger: how often the target is predicted by mistake"),
    "flip_rate": ("flip", "of the rows predicted correctly without the trigger, those that it turns; near 0 is good"),
    "trigger_effect": ("effect", "rows whose prediction the trigger changes"),
    "anr": ("ANR", "mean rank of a triggered function as a share of its pool; low if the trigger raises it"),
    "anr_without": ("without", "ANR without the trigger"),
    "located": ("located", "triggers that the purification changes"),
    "touched": ("touched", "clean inputs that the purification changes"),
}


def text(entry: Entry, seeds: int) -> str:
    """``67.8 ×2 [65.0, 70.1] (paper 62.4 a)``; a dash if the method does not apply or the value is undefined.

    ``seeds``: the table's number of seeds; a cell with a different number is marked.
    """
    if entry is None:
        return ""
    if entry == "dash" or entry.value is None:
        return labels.DASH
    content = labels.percent(entry.value) + entry.mark(seeds)
    if entry.low is not None and entry.high is not None:
        content += f" [{labels.percent(entry.low)}, {labels.percent(entry.high)}]"
    if entry.paper is not None:
        content += f" (paper {labels.percent(entry.paper.value)} {entry.paper.mark})"
    return content


def as_csv(study: Study, results: Results, table: ResultTable) -> str:
    """Every cell of the experiment, including those that other formats omit, as shares in [0, 1]."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for scenario in dict.fromkeys(map(anonymous, scenarios(study.experiment))):
        path = {key: value for key, value in scenario.wildcards.items() if key != "seed"}
        for testset in results.testsets(scenario):
            for metric in results.metrics(scenario, testset):
                names = {"column": labels.column(scenario), "testset": testset, "metric": metric}
                cell = results.get(scenario, testset, metric)
                writer.writerow({"experiment": study.name, **path, **names, **_numbers(cell)})
    for group in table.groups:
        for line in group.lines:
            entry = line.entries.get(labels.BASELINE)
            if isinstance(entry, Cell):
                names = {"column": labels.BASELINE, "testset": CLEAN, "metric": line.metric}
                victim = {kind: getattr(group.scenario, kind) for kind in ("dataset", "model", "attack", "rate")}
                writer.writerow({"experiment": study.name, **victim, **names, **_numbers(entry)})
    return stream.getvalue()


def _numbers(cell: Cell | None) -> dict[str, object]:
    if cell is None:
        return {}
    numbers: dict[str, object] = {"n": cell.n, "seeds": cell.seeds}
    estimate = {"value": cell.value, "low": cell.low, "high": cell.high}
    numbers |= {name: f"{number:.6f}" for name, number in estimate.items() if number is not None}
    if cell.paper is not None:
        numbers |= {"paper": f"{cell.paper.value:.4f}", "paper_source": cell.paper.source}
    return numbers


def as_markdown(table: ResultTable) -> str:
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


def present(table: ResultTable, group: VictimGroup) -> list[str]:
    """The columns in which the group has an entry, and always those of the benign and the undefended victim."""
    always = {labels.BENIGN, labels.UNDEFENDED} & set(group.scenarios)
    return [
        name
        for name in table.columns
        if name in always or any(line.entries.get(name) is not None for line in group.lines)
    ]


def as_latex(table: ResultTable) -> str:
    """A ``tabular`` with booktabs rules and all groups, to be put into a ``table``."""
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
    content = labels.percent(entry.value) + escape(entry.mark(seeds))
    if entry.low is not None and entry.high is not None:
        content += rf" {{\scriptsize[{labels.percent(entry.low)}, {labels.percent(entry.high)}]}}"
    if entry.paper is not None:
        content += rf" {{\scriptsize({labels.percent(entry.paper.value)}\textsuperscript{{{entry.paper.mark}}})}}"
    return content


def escape(value: str) -> str:
    marks = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "−": "$-$", "·": r"$\cdot$", "×": r"$\times$", "–": "--"}
    return "".join(marks.get(letter, letter) for letter in value)


def legend(paths: Iterable[Path]) -> str:
    """The meaning of a terminal's columns, one per line, for the metrics in these CSV files."""
    metrics = {row["metric"] for path in paths for row in _read_csv(path)}
    lines = (f"  {head:9} {meaning}" for metric, (head, meaning) in SHORT.items() if metric in metrics)
    return "\n".join(["Columns, in percent:", *lines])


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def from_csv(path: Path) -> str:
    """The table of one experiment for a terminal: a block for each attacked victim, a line for each defense.

    A block shows the metrics on clean rows and with the victim's trigger, including those of the benign victim.
    """
    rows = _read_csv(path)
    blocks = []
    for dataset, model, attack, rate in dict.fromkeys(_victim(row) for row in rows):
        of_victim = [row for row in rows if _victim(row) == (dataset, model, attack, rate)]
        benign = [row for row in rows if _victim(row) == (dataset, model, NONE, "0") and row["column"] == labels.BENIGN]
        baseline = [row for row in of_victim if row["column"] == labels.BASELINE]
        lines: dict[str, dict[str, str]] = {}
        for row in (*baseline, *benign, *of_victim):
            if row["testset"] in (CLEAN, attack):
                value = labels.percent(float(row["value"])) if row["value"] else labels.DASH
                lines.setdefault(row["column"], {})[row["metric"]] = value
        if attack != NONE or len(lines) > 1:
            blocks.append(as_text(labels.group(Scenario(dataset, model, attack, rate)), lines))
    return "\n\n".join(blocks)


def _victim(row: Mapping[str, str]) -> tuple[str, str, str, str]:
    return row["dataset"], row["model"], row["attack"], row["rate"]


def as_text(title: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    """Rows of values by metric, in percent and aligned columns, without metrics that no row has."""
    heads = {metric: head for metric, (head, _) in SHORT.items() if any(metric in row for row in rows.values())}
    width = max(map(len, rows))
    lines = [title, " ".join([" " * width, *(head.rjust(8) for head in heads.values())])]
    for name, row in rows.items():
        lines.append(" ".join([name.ljust(width), *(row.get(metric, "").rjust(8) for metric in heads)]))
    return "\n".join(lines)
