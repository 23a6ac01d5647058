"""A few inputs before and after a purification, side by side, for readers who do not know the project.

Texts and predictions come from untrusted data, so the template escapes everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from typing import Any

from codebackdoor import files
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels
from codebackdoor.report.html import environment
from codebackdoor.report.study import Study, scenarios_shown
from codebackdoor.report.webpages.layout import Piece, first_line, pieces
from codebackdoor.types import CLEAN, CodeField, Example, Field, Poisoned, Span

#: Maximum number of elements whose scores a page lists, and of characters of an element.
_ELEMENTS, _CHARACTERS = 5, 70
JsonRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ScoredElement:
    """An element of an input and its suspicion score; ``width``: the score as a percentage of the highest one."""

    text: str
    score: float
    width: float
    in_trigger: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One text before and after purification; ``meaning``: its role in the task."""

    meaning: str
    before: list[Piece]
    after: list[Piece]


@dataclass(frozen=True, slots=True)
class ShownInput:
    """One input: the kind of case, the method's conclusion, the predicted labels or the outputs, and the texts.

    ``outputs``: the texts that the victim writes, and those that it should write, each with its name.
    """

    heading: str
    conclusion: str
    truth: str
    predicted: str
    predicted_after: str
    outputs: list[tuple[str, list[Piece]]]
    panels: list[Panel]
    elements: list[ScoredElement]


@dataclass(frozen=True, slots=True)
class _Case:
    """A test input before purification; ``label`` and ``target`` are the correct ones, ``aim`` is the attacker's."""

    example: Example
    trigger: Sequence[Span]
    label: int | None
    target: str | None
    aim: str | None = None


@dataclass(frozen=True)
class Purification:
    """The test inputs of one attacked victim, before and after a purification."""

    study: Study
    scenario: Scenario

    @cached_property
    def _out(self) -> Path:
        return Path(self.study.settings["out"])

    @cached_property
    def triggered(self) -> list[Poisoned]:
        rows = files.read_poisoned(self.scenario.poison(self._out) / "test.jsonl")
        return [row for row in rows if row.status == "injected"]

    @cached_property
    def clean(self) -> list[Example]:
        return files.read_examples(self._out / "data" / self.scenario.dataset / "test.jsonl")

    def rows(self, kind: str, testset: str) -> dict[str, JsonRow]:
        """Rows by id of ``purified``, of ``predictions``, or of predictions without purification (``before``)."""
        scenario = self.scenario.undefended() if kind == "before" else self.scenario
        name = "predictions" if kind == "before" else kind
        return {row["id"]: row for _, row in files.read_rows(scenario.results(self._out) / f"{name}.{testset}.jsonl")}

    def inputs(self) -> Iterator[ShownInput]:
        """The first triggered inputs with a touched and with an untouched trigger, and two clean inputs likewise."""
        attack = self.scenario.attack
        cases = [
            _Case(row.example, row.spans, row.original_label, row.original_target, row.example.target)
            for row in self.triggered
        ]
        yield from self._cases(
            attack,
            cases,
            ("An input with a trigger, which is found", "An input with a trigger, which is missed"),
        )
        cases = [_Case(example, (), example.label, example.target) for example in self.clean]
        yield from self._cases(
            CLEAN, cases, ("An input without a trigger, changed by mistake", "An input without a trigger, left alone")
        )

    def _cases(self, testset: str, cases: Sequence[_Case], headings: tuple[str, str]) -> Iterator[ShownInput]:
        purified = self.rows("purified", testset)
        before, after = self.rows("before", testset), self.rows("predictions", testset)

        def first(is_touched: bool) -> _Case | None:
            return next(
                (case for case in cases if _touches(purified[case.example.id], case.trigger) == is_touched), None
            )

        for heading, case in zip(headings, (first(is_touched=True), first(is_touched=False)), strict=True):
            if case is not None:
                id_ = case.example.id
                yield self._shown_input(heading, case, (purified[id_], before[id_], after[id_]))

    def _shown_input(self, heading: str, case: _Case, rows: tuple[JsonRow, JsonRow, JsonRow]) -> ShownInput:
        purified, before, after = rows
        touched = [Span(start, end, field) for field, start, end in purified["touched"]]
        example, form, language = case.example, self._form, case.example.language
        panels = []
        for field, old in example.texts.items():
            if field in self.reads:
                new, field_form = purified.get(field, old), "raw" if field == "query" else form
                marks = {"trigger": _ranges(case.trigger, field), "touched": _ranges(touched, field)}
                # a trigger in an unchanged text is still there
                marks_after = {"trigger": marks["trigger"]} if new == old else {"new": _differences(old, new)}
                panels.append(
                    Panel(
                        self.reads[field],
                        pieces(old, language, field_form, marks),
                        pieces(new, language, field_form, marks_after),
                    )
                )
        return ShownInput(
            heading,
            conclusion(purified["detail"], bool(touched)),
            "" if case.label is None else self._label(case.label),
            self._prediction(before),
            self._prediction(after),
            list(self._outputs(case, before, after)),
            panels,
            scored_elements(purified["detail"], example, case.trigger),
        )

    def _outputs(self, case: _Case, before: JsonRow, after: JsonRow) -> Iterator[tuple[str, list[Piece]]]:
        """What the victim writes before and after purification, what is correct, and what the attacker wants."""
        if not self.study.head(self.scenario.dataset).generates:
            return
        texts = {
            "Output before": before["text"],
            "Output after": after["text"],
            "Correct output": case.target,
            "Output that the attacker wants": case.aim,
        }
        for name, text in texts.items():
            if text is not None:
                yield name, pieces(text, case.example.language, self._form, {})

    @property
    def reads(self) -> Mapping[Field, str]:
        """The texts that the victim reads, each with its meaning."""
        return self.study.dataset_class(self.scenario.dataset).reads

    @property
    def _form(self) -> str:
        return str(self.study.variant("datasets", self.scenario.dataset).get("text_form", "lexed"))

    def _label(self, label: int) -> str:
        meaning = self.study.dataset_class(self.scenario.dataset).labels.get(label)
        return f"label {label}" + (f" ({meaning})" if meaning else "")

    def _prediction(self, row: JsonRow) -> str:
        """The predicted label; empty for a victim that predicts none."""
        if row.get("label") is None:
            return ""
        return f"{self._label(row['label'])}, {100 * row['confidence']:.1f}% sure"

    @property
    def is_by_entropy(self) -> bool:
        return any("entropy" in row["detail"] for row in self.rows("purified", CLEAN).values())

    def counts(self) -> dict[str, int]:
        """The number of triggered inputs, of those whose trigger is touched, and of touched clean inputs."""
        purified = self.rows("purified", self.scenario.attack)
        clean = self.rows("purified", CLEAN)
        return {
            "triggered": len(self.triggered),
            "located": sum(_touches(purified[row.example.id], row.spans) for row in self.triggered),
            "clean": len(clean),
            "touched": sum(bool(row["touched"]) for row in clean.values()),
        }


def render(study: Study, inputs: Sequence[Path]) -> str:
    """The page; ``inputs`` are the files that ``products.inputs`` lists."""
    purifications = [Purification(study, scenario) for scenario in scenarios_shown("purified_inputs", inputs)]
    parts = [
        {
            "title": f"{labels.group(part.scenario)}: {labels.defense(part.scenario)}",
            "counts": part.counts(),
            "target": _target(study, part.scenario),
            "inputs": list(part.inputs()),
        }
        for part in purifications
    ]
    explains_entropy = any(part.is_by_entropy for part in purifications)
    fields = {field for part in purifications for field in part.reads}
    kinds = [kind for kind, is_read in (("text", "query" in fields), ("code", bool(fields - {"query"}))) if is_read]
    template = environment().get_template("purified_inputs.html.j2")
    return template.render(
        title=study.experiment.title, parts=parts, explains_entropy=explains_entropy, kind=" and ".join(kinds)
    )


def _target(study: Study, scenario: Scenario) -> str:
    """What the attacker wants the victim to do."""
    if study.head(scenario.dataset).generates:
        return "the model to write other code, which is shown below each input with a trigger"
    if not study.head(scenario.dataset).predicts_label or scenario.attack == NONE:
        return "a prediction of the attacker's choice"
    target = int(study.variant("attacks", scenario.attack).get("target_label", 0))
    meaning = study.dataset_class(scenario.dataset).labels.get(target)
    return f"the model to predict label {target}" + (f" ({meaning})" if meaning else "")


def conclusion(detail: JsonRow, is_touched: bool) -> str:
    """The method's conclusion, in a sentence or two."""
    if "entropy" in detail:
        return _by_entropy(detail, is_touched)
    if "dropped" in detail:
        dropped = ", ".join(str(word) for word, *_ in detail["dropped"])
        return (
            f"Words that make the text unlikely, which were dropped: {dropped}" if dropped else "No word is unlikely."
        )
    return "Part of the input was replaced or removed." if is_touched else "Nothing was changed."


def _by_entropy(detail: JsonRow, is_touched: bool) -> str:
    entropy, threshold = detail["entropy"], detail["threshold"]
    if entropy is None:
        compared = "Fewer than two elements were scored, so none can stand out."
    elif threshold is None:
        compared = f"The suspicion has an entropy of {entropy:.3f}; there is no finite threshold."
    else:
        side = "below" if entropy < threshold else "not below"
        compared = f"The suspicion has an entropy of {entropy:.3f}, which is {side} the threshold {threshold:.3f}."
    if not detail["poisoned"]:
        return f"{compared} No element stands out: the input counts as clean."
    kind = (detail.get("top") or {}).get("kind", "element")
    replaced = "It was replaced." if is_touched else "No replacement was found."
    return f"{compared} One {kind} stands out and counts as a trigger. {replaced}"


def scored_elements(detail: JsonRow, example: Example, trigger: Sequence[Span]) -> list[ScoredElement]:
    """The elements with the highest suspicion scores; empty for a method without scores."""
    highest = sorted(detail.get("profile", []), key=lambda entry: -entry[3])[:_ELEMENTS]
    elements = []
    for _, start, end, score, *second in highest:
        field: CodeField = "code_b" if second else "code"
        text = first_line(str(getattr(example, field))[start:end])
        text = text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"
        in_trigger = any(Span(start, end, field).overlaps(span) for span in trigger)
        elements.append(ScoredElement(text, score, 100 * score / (highest[0][3] or 1), in_trigger))
    return elements


def _touches(purified: JsonRow, trigger: Sequence[Span]) -> bool:
    """Whether the trigger is touched; for an input without a trigger, whether anything is."""
    touched = [Span(start, end, field) for field, start, end in purified["touched"]]
    return any(span.overlaps(part) for span in touched for part in trigger) if trigger else bool(touched)


def _ranges(spans: Sequence[Span], field: Field) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in spans if span.field == field]


def _differences(old: str, new: str) -> list[tuple[int, int]]:
    """The ranges of characters in the new text that differ from the old one, compared word by word."""
    words, ranges, position = new.split(" "), [], 0
    starts = []
    for word in words:
        starts.append(position)
        position += len(word) + 1
    for change, _, _, first, last in SequenceMatcher(a=old.split(" "), b=words, autojunk=False).get_opcodes():
        if change != "equal" and first < last:
            ranges.append((starts[first], starts[last - 1] + len(words[last - 1])))
    return ranges
