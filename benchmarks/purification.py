"""CodePurify and ONION against plain references, and CodePurify's screen: python benchmarks/purification.py --help

The references run one input and one variant at a time, padded to the maximum length of the victim or language model,
with transformers' own forward pass. Their scores, entropy, thresholds and decisions are implemented here. They share
with the package the parser, its words and elements, and CodePurify's filling of a selected span.

\b
decisions  whether they are the same: CodePurify's verdict, the spans it touches and its new text; ONION's dropped words
overhead   time of a purification as a multiple of plain predictions on the same inputs, one input at a time and in
           batches, compared with the paper's Table IV; ``screen``: CodePurify's `screen: gradient`
curve      CodePurify with a screen of more and more elements: runs of the victim, time, triggers located

Times are processor time (all threads of this process), which other work on the machine disturbs less than wall-clock
time. The inputs are split into parts; on each part, all methods take turns, and the fastest repeat counts. Thresholds
are calibrated before and not timed. The curve's threshold touches 3% of clean validation rows.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from sklearn.metrics import roc_auc_score

from codebackdoor import files, syntax
from codebackdoor.defenses.helpers import CAUSAL, MASKED, load_helper
from codebackdoor.defenses.purification.codepurify.infilling import Infiller
from codebackdoor.defenses.purification.codepurify.method import CodePurify
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.onion.method import Onion
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.purification.oseql.method import LineEffects, OSeqL
from codebackdoor.defenses.purification.oseql.settings import OSeqLSettings
from codebackdoor.defenses.suspicion.masking import Element, elements
from codebackdoor.defenses.suspicion.scoring import ElementScores
from codebackdoor.defenses.suspicion.word_scores import words
from codebackdoor.defenses.views import DefenderView
from codebackdoor.evaluation.answers import Answers
from codebackdoor.types import Example, Poisoned, Purified
from codebackdoor.victims.inference import predict
from codebackdoor.victims.rows import examples
from codebackdoor.victims.victim import Victim, load_victim

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/purification.json"
HELPERS = {"infiller": ROOT / "basemodels/encoder", "language_model": ROOT / "basemodels/causal"}
ATTACKS = ("codepoisoner_deadcode-0.05", "codepoisoner_func-0.05")
#: Multiples of plain inference in defect detection: Table IV of the paper, 0.21, 2.47 and 0.45 over 0.01 seconds.
PRINTED = {"codepurify": 21.0, "onion": 247.0, "oseql": 45.0}
#: Target speedups over the references, and target multiples of plain inference in batches.
WANTED = {"codepurify": 5.0, "onion": 10.0}
LIMITS = {"codepurify": 12.0, "codepurify, screen": 5.0}
SHARE, REMOVED = 0.03, 0.01
SCREENS = (2, 3, 4, 6, 8)

#: A purification's decision on an input: whether it is flagged, the touched spans, and the new text.
Decision = tuple[bool, tuple[tuple[int, int], ...], str]


@dataclass(frozen=True)
class PlainCodePurify:
    """Section III as printed: mask each element by itself, compute the entropy of the changes, fill the top one."""

    victim: Victim
    infiller: Infiller
    tokenizer: Any
    settings: CodePurifySettings
    threshold: float = math.inf

    def confidence(self, ids: Sequence[int], label: int | None = None) -> tuple[int, float]:
        """The label (the predicted one by default) of one padded input, and its probability."""
        longest = self.victim.max_length
        row = torch.tensor([[*ids, *[self.victim.pad_id] * (longest - len(ids))]])
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids))])
        with torch.inference_mode():
            probabilities = self.victim.model(input_ids=row, attention_mask=mask).logits[0].double().softmax(-1)
        label = int(probabilities.argmax()) if label is None else label
        return label, float(probabilities[label])

    def masked(self, code: str, element: Element) -> list[int]:
        """The victim's sub-tokens, with each masked span replaced by as many masks as the infiller has sub-tokens."""
        of_victim, of_infiller = self.offsets(self.victim.tokenizer, code), self.offsets(self.tokenizer, code)
        ids: list[int] = [self.victim.tokenizer.bos_token_id]
        filled = [False] * len(element.masked)
        for token, start, end in of_victim[: self.victim.max_length - 2]:
            spans = [n for n, (low, high) in enumerate(element.masked) if start < high and end > low]
            if not spans:
                ids.append(token)
            for n in spans:
                if not filled[n]:
                    low, high = element.masked[n]
                    masks = sum(first < high and last > low for _, first, last in of_infiller)
                    ids += [self.victim.tokenizer.mask_token_id] * masks
                    filled[n] = True
        return [*ids[: self.victim.max_length - 1], self.victim.tokenizer.eos_token_id]

    @staticmethod
    def offsets(tokenizer: Any, code: str) -> list[tuple[int, int, int]]:
        """Sub-tokens with the ranges of characters that they cover, without leading spaces."""
        encoded = tokenizer(code, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [
            (token, start + len(code[start:end]) - len(code[start:end].lstrip()), end)
            for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    def profile(self, row: Example) -> tuple[float, Element | None, float]:
        """Entropy (infinite if there is none), the most suspicious element, and its score."""
        tree = syntax.parse(row.code, row.language, self.victim.text_form)
        unmasked = self.victim.tokenizer(row.code, truncation=True, max_length=self.victim.max_length)["input_ids"]
        label, before = self.confidence(unmasked)
        changes: list[tuple[float, int, Element]] = []
        for element in elements(tree, self.settings):
            change = abs(before - self.confidence(self.masked(row.code, element), label)[1])
            size = sum(end - start for start, end in element.masked)
            # ignore rounding errors of the probability
            changes.append((round(change, 6) if change >= 1e-5 else 0.0, -size, element))
        if len(changes) < 2:
            return math.inf, *((changes[0][2], changes[0][0]) if changes else (None, 0.0))
        total = sum(change for change, _, _ in changes)
        shares = [change / total if total else 1 / len(changes) for change, _, _ in changes]
        top = max(changes, key=lambda entry: entry[:2])
        return -sum(share * math.log(share) for share in shares if share > 0), top[2], top[0]

    def purify(self, row: Example) -> Decision:
        entropy, element, score = self.profile(row)
        if element is None or score == 0 or entropy >= self.threshold:
            return False, (), row.code
        tree = syntax.parse(row.code, row.language, self.victim.text_form)
        (texts,) = self.infiller.fill([tree], self.infiller.tokens([row.code]), [element])
        if texts is None:
            return True, (), row.code
        code, moved = row.code, 0
        for (start, end), text in zip(element.masked, texts, strict=True):
            code = code[: start + moved] + text + code[end + moved :]
            moved += len(text) - (end - start)
        return True, element.masked, code


@dataclass(frozen=True)
class PlainOnion:
    """Section 3 of Qi et al.: the perplexity of the text without each of its words, computed one text at a time."""

    model: Any
    tokenizer: Any
    form: Any
    threshold: float = math.inf

    def perplexity(self, ids: Sequence[int]) -> float:
        longest = int(self.model.config.max_position_embeddings)
        row = torch.tensor([[*ids, *[0] * (longest - len(ids))]])
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids))])
        with torch.inference_mode():
            log_p = self.model(input_ids=row, attention_mask=mask).logits[0, : len(ids) - 1].double().log_softmax(-1)
        return math.exp(-float(log_p[range(len(ids) - 1), list(ids[1:])].mean()))

    def drops(self, row: Example) -> list[tuple[tuple[int, int], float]]:
        """Each word, and by how much the perplexity falls without it."""
        tokens = PlainCodePurify.offsets(self.tokenizer, row.code)
        start = self.tokenizer.bos_token_id
        tokens = tokens[: int(self.model.config.max_position_embeddings) - 1]
        before = self.perplexity([start, *(token for token, _, _ in tokens)])
        drops = []
        for low, high in words(row, self.form):
            rest = [token for token, first, last in tokens if not (first < high and last > low)]
            if rest and len(rest) < len(tokens):
                drops.append(((low, high), before - self.perplexity([start, *rest])))
        return drops

    def purify(self, row: Example) -> Decision:
        spans = tuple(span for span, drop in self.drops(row) if drop > self.threshold)
        code = row.code
        for start, end in reversed(spans):
            if code[end : end + 1] == " ":
                end += 1
            elif code[start - 1 : start] == " ":
                start -= 1
            code = code[:start] + code[end:]
        return bool(spans), spans, code


def decision(row: Purified) -> Decision:
    spans = tuple((span.start, span.end) for span in row.touched)
    return bool(row.detail.get("poisoned", spans)), spans, row.example.code


@dataclass(frozen=True)
class Data:
    """One attack: its victim, clean validation and test rows, and triggered test rows."""

    name: str
    victim: Victim
    valid: list[Example]
    clean: list[Example]
    triggered: list[Poisoned]

    @property
    def view(self) -> DefenderView:
        helpers = dict(HELPERS)
        return DefenderView(
            "defect_detection", "python", self.victim.text_form, tuple(self.valid), helpers, victim=self.victim
        )


def read(run: Path, attack: str, count: int, calibration: int) -> Data:
    data, scenario = run / "data/defects", f"{attack}/seed1"
    victim = load_victim(run / f"models/defects/codebert/{scenario}/none/cross_entropy/none")
    triggered = [row for row in files.read_mixed(data / scenario / "test.jsonl") if isinstance(row, Poisoned)]
    return Data(
        attack,
        victim,
        files.read_examples(data / "valid.jsonl")[:calibration],
        files.read_examples(data / "test.jsonl")[:count],
        [row for row in triggered if row.status == "injected"][:count],
    )


def cpu(run: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def timed(ways: Mapping[str, Callable[[Any], Any]], parts: Sequence[Any], repeats: int) -> dict[str, float]:
    """Processor seconds of each method on all parts; they take turns on each part, and the fastest repeat counts."""
    seconds = dict.fromkeys(ways, 0.0)
    for part in parts:
        fastest = dict.fromkeys(ways, math.inf)
        for _ in range(repeats):
            for name, way in ways.items():
                fastest[name] = min(fastest[name], cpu(lambda: way(part)))  # noqa: B023
        for name, best in fastest.items():
            seconds[name] += best
    return seconds


def in_parts(rows: Sequence[Example], size: int) -> list[list[Example]]:
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def one_by_one(way: Callable[[list[Example]], object]) -> Callable[[list[Example]], object]:
    return lambda rows: [way([row]) for row in rows]


@dataclass(frozen=True)
class Ways:
    """The timed purifications, calibrated on the same rows as their references."""

    data: Data
    infiller: Infiller

    def codepurify(self, **changes: Any) -> CodePurify:
        settings = self.settings(**changes)
        _, tokenizer = load_helper(self.data.view, "infiller", MASKED)
        return CodePurify(
            self.data.view, self.infiller, settings, 1, ElementScores(self.data.view, tokenizer, settings)
        )

    def settings(self, **changes: Any) -> CodePurifySettings:
        values = {"touched_share": SHARE, "calibration_inputs": len(self.data.valid), **changes}
        return CodePurifySettings.model_validate({"method": "codepurify", **values})

    def onion(self) -> Onion:
        values = {"removed_share": REMOVED, "calibration_inputs": len(self.data.valid)}
        settings = OnionSettings.model_validate({"method": "onion", **values})
        return Onion(self.data.view, *load_helper(self.data.view, "language_model", CAUSAL), settings, 1)

    def oseql(self) -> OSeqL:
        return OSeqL(self.data.view, OSeqLSettings.model_validate({"method": "oseql"}), 1, LineEffects(self.data.view))

    def plain_codepurify(self) -> PlainCodePurify:
        tokenizer = load_helper(self.data.view, "infiller", MASKED)[1]
        plain = PlainCodePurify(self.data.victim, self.infiller, tokenizer, self.settings())
        entropies = sorted(plain.profile(row)[0] for row in self.data.valid)
        return PlainCodePurify(
            plain.victim, plain.infiller, tokenizer, plain.settings, entropies[round(SHARE * len(entropies))]
        )

    def plain_onion(self) -> PlainOnion:
        model, tokenizer = load_helper(self.data.view, "language_model", CAUSAL)
        plain = PlainOnion(model, tokenizer, self.data.victim.text_form)
        drops = sorted(drop for row in self.data.valid for _, drop in plain.drops(row))
        # the threshold is exceeded by as many words as may be dropped
        return PlainOnion(model, tokenizer, plain.form, drops[len(drops) - 1 - round(REMOVED * len(drops))])


def against_references(ways: Ways, rows: Sequence[Example], repeats: int) -> dict[str, Any]:
    """Times and decisions of both methods and of their references, which run once, between the package's repeats."""
    pairs: dict[str, tuple[Any, Any]] = {
        "codepurify": (ways.codepurify(), ways.plain_codepurify()),
        "onion": (ways.onion(), ways.plain_onion()),
    }
    result = {}
    for name, (package, plain) in pairs.items():
        theirs: list[Decision] = []
        seconds = {"package": math.inf, "reference": 0.0}
        for part in in_parts(rows, math.ceil(len(rows) / repeats)):
            seconds["package"] = min(seconds["package"], cpu(lambda: package.purify(rows)))  # noqa: B023
            seconds["reference"] += cpu(lambda: theirs.extend(plain.purify(row) for row in part))  # noqa: B023
        ours = [decision(row) for row in package.purify(rows)]
        result[name] = {
            "seconds": seconds,
            "times_faster": seconds["reference"] / seconds["package"],
            "inputs": len(rows),
            "same_decisions": sum(first == second for first, second in zip(ours, theirs, strict=True)),
            "touched": sum(bool(spans) for _, spans, _ in theirs),
            "thresholds": [package.threshold, plain.threshold],
        }
    return result


def overhead(ways: Ways, rows: Sequence[Example], repeats: int) -> dict[str, dict[str, float]]:
    """Multiples of plain inference: one input at a time, and in batches."""
    victim = ways.data.victim
    methods: dict[str, Any] = {
        "codepurify": ways.codepurify(),
        "codepurify, screen": ways.codepurify(screen="gradient"),
        "onion": ways.onion(),
        "oseql": ways.oseql(),
    }
    run = {"plain": lambda rows: predict(victim, rows), **{name: way.purify for name, way in methods.items()}}
    # only the victim's scores, without filling
    run |= {f"{name}: scores alone": methods[name].source.evidence for name in ("codepurify", "codepurify, screen")}
    alone = timed({name: one_by_one(way) for name, way in run.items()}, in_parts(rows, 8), repeats)
    together = timed(run, [list(rows)], repeats + 2)
    return {
        name: {"alone": alone[name] / alone["plain"], "together": together[name] / together["plain"]}
        for name in run
        if name != "plain"
    } | {"seconds per input, plain": {"alone": alone["plain"] / len(rows), "together": together["plain"] / len(rows)}}


def suspicion(row: Purified) -> float:
    """Minus the entropy; for an input without entropy, less than any other value."""
    value = row.detail["suspicion"]
    return value if isinstance(value, float) else -1e9


def elements_of(row: Purified) -> int:
    """Number of elements that were scored."""
    profile = row.detail["profile"]
    assert isinstance(profile, list)
    return len(profile)


def curve(ways: Ways, repeats: int) -> list[dict[str, Any]]:
    """Results with a screen of each width, and without a screen (null)."""
    data = ways.data
    rows, form = examples(data.triggered), data.victim.text_form
    purifiers: dict[int | None, CodePurify] = {
        count: ways.codepurify(screen="gradient", screened_elements=count) for count in SCREENS
    }
    purifiers[None] = ways.codepurify()
    timing = {str(count): way.source.evidence for count, way in purifiers.items()}
    seconds = timed({"plain": lambda rows: predict(data.victim, rows), **timing}, [rows], repeats)
    exact: list[Decision] = []
    points = []
    for count, purifier in sorted(purifiers.items(), key=lambda entry: -(entry[0] or math.inf)):
        triggered, clean = purifier.purify(rows), purifier.purify(data.clean)
        suspicions = [suspicion(row) for row in (*clean, *triggered)]
        labels = [0] * len(clean) + [1] * len(triggered)
        decisions = [decision(row) for row in (*triggered, *clean)]
        exact = exact or decisions
        scored = statistics.mean(elements_of(row) for row in triggered)
        points.append(
            {
                "elements": count,
                "scored": scored,
                # a gradient is a forward pass and a backward pass of about the same cost
                "passes": scored + (1 if count is None else 2),
                "time": seconds[str(count)] / seconds["plain"],
                "located_exactly": statistics.mean(
                    bool(Answers(Path(), {}, {row.example.id: after.touched}).located_exactly(row, form))
                    for row, after in zip(data.triggered, triggered, strict=True)
                ),
                "auroc": float(roc_auc_score(labels, suspicions)),
                "touched": statistics.mean(bool(row.touched) for row in clean),
                "same_decisions": statistics.mean(a == b for a, b in zip(decisions, exact, strict=True)),
            }
        )
    return points[::-1]


PAGE = """\
# CodePurify and ONION: speed, and CodePurify's screen

Made by `python benchmarks/purification.py`. Victims: CodeBERT-class, 2 layers × 128, defect detection at local scale,
{attacks}. {inputs} inputs of {tokens:.0f} sub-tokens on average, half of them with the trigger; {elements:.1f} elements
each. Processor time of {threads} thread(s), {processor}, torch {torch}; on each part of the inputs, all ways ran by
turns, and the fastest of {repeats} repeats counts (the references ran once). Other work was running: {load:.1f}
processes on {cores} cores. Thresholds of the times are calibrated on {calibration[times]} clean validation rows, those
of the curve on {calibration[curve]}; the curve has {curve_inputs} triggered and as many clean inputs.

## Against plain references

The reference runs one input and one variant at a time, padded to the longest input, by transformers' forward pass.

| | reference, s | package, s | times faster | wanted | same decisions | inputs touched |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def page(facts: Mapping[str, Any]) -> str:
    lines = [PAGE.format(**facts, attacks=" and ".join(f"`{name}`" for name in facts["curves"]))]
    for name, row in facts["references"].items():
        seconds, same = row["seconds"], f"{row['same_decisions']} of {row['inputs']}"
        lines[-1] += cells(
            name, f"{seconds['reference']:.1f}", f"{seconds['package']:.2f}", f"{row['times_faster']:.1f}",
            f"{WANTED[name]:.0f}", same, row["touched"],
        )  # fmt: skip
    plain = facts["overhead"]["seconds per input, plain"]
    lines.append(
        f"""
## Multiples of plain inference

Plain inference takes {1000 * plain["alone"]:.2f} ms for an input alone and {1000 * plain["together"]:.2f} ms for one in
a batch. *Scores alone*: without filling what is flagged. The paper's multiples are those of its Table IV in defect
detection (0.01 s an input); half of the inputs here carry a trigger and are filled.

| | one input at a time | in batches | wanted, in batches | paper |
| --- | ---: | ---: | ---: | ---: |
"""
    )
    for name, row in facts["overhead"].items():
        if name.startswith("seconds"):
            continue
        method = name.partition(":")[0]
        limit = f"≤ {LIMITS[method]:.0f}" if ":" in name else ""
        printed = f"{PRINTED[name]:.0f}" if name in PRINTED else ""
        lines[-1] += cells(name, f"{row['alone']:.1f}", f"{row['together']:.1f}", limit, printed)
    lines.append(
        """
## The screen

Elements that the gradient lets through; the last row of each attack is CodePurify without a screen. *Passes*: through
the victim for an input, the gradient counted as two. *Time*: of the scores, as a multiple of plain inference in
batches. *Located exactly*: of the triggered inputs, at a threshold calibrated to touch 3% of clean validation inputs.
*AUROC*: of the entropy. *Same*: decisions on triggered and clean inputs that are those without a screen.

| attack | elements | passes | time | located exactly | AUROC | clean touched | same |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""
    )
    for attack, points in facts["curves"].items():
        for point in points:
            shares = (f"{100 * point[name]:.1f}" for name in ("located_exactly",))
            lines[-1] += cells(
                attack, point["elements"] or "all", f"{point['passes']:.1f}", f"{point['time']:.1f}", *shares,
                f"{point['auroc']:.3f}", f"{100 * point['touched']:.1f}", f"{100 * point['same_decisions']:.1f}",
            )  # fmt: skip
    return "".join(lines)


def cells(*values: object) -> str:
    return f"| {' | '.join(map(str, values))} |\n"


@click.command(help=__doc__)
@click.option("--run", type=click.Path(path_type=Path), default=ROOT / "runs/local", help="Folder of a finished run.")
@click.option("--attack", "attacks", multiple=True, default=ATTACKS, show_default=True, help="ATTACK-RATE; repeatable.")
@click.option("--inputs", default=120, show_default=True, help="Inputs for the overhead, half of them triggered.")
@click.option("--referenced", default=60, show_default=True, help="Inputs for the comparison with the references.")
@click.option(
    "--curve-inputs", default=300, show_default=True, help="Number of triggered and of clean inputs for the curve."
)
@click.option("--calibration", default=100, show_default=True, help="Clean rows for calibrating thresholds.")
@click.option("--curve-calibration", default=500, show_default=True, help="The same for the curve; the study uses 500.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="JSON; the page is next to it.")
def main(
    run: Path,
    attacks: Sequence[str],
    inputs: int,
    referenced: int,
    curve_inputs: int,
    calibration: int,
    curve_calibration: int,
    repeats: int,
    threads: int,
    results: Path,
) -> None:
    import gc

    torch.set_num_threads(threads)
    # as the command line does
    gc.set_threshold(20_000)
    first = read(run, attacks[0], inputs // 2, calibration)
    infiller = Infiller(*load_helper(first.view, "infiller", MASKED))
    ways = Ways(first, infiller)
    rows = [row for pair in zip(examples(first.triggered), first.clean, strict=True) for row in pair]
    lengths = [len(encoded.ids) for encoded in first.victim.encode([row.code for row in rows])]
    counts = [
        len(elements(syntax.parse(row.code, row.language, first.victim.text_form), ways.settings())) for row in rows
    ]
    facts: dict[str, Any] = {
        "inputs": len(rows),
        "tokens": statistics.mean(lengths),
        "elements": statistics.mean(counts),
        "calibration": {"times": calibration, "curve": curve_calibration},
        "curve_inputs": curve_inputs,
        "load": os.getloadavg()[1],
        "cores": os.cpu_count(),
        "threads": threads,
        "repeats": repeats,
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "overhead": overhead(ways, rows, repeats),
        "references": against_references(ways, rows[:referenced], repeats),
        "curves": {
            attack: curve(Ways(read(run, attack, curve_inputs, curve_calibration), infiller), repeats)
            for attack in attacks
        },
    }
    results.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    results.with_suffix(".md").write_text(page(facts), encoding="utf-8")
    print(page(facts))


if __name__ == "__main__":
    main()
