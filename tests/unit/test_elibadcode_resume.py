"""A scan that is killed at any step goes on from what it wrote down, and finds what an undisturbed one finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from planted import sample, victim
from tiny_models import understanding

from codebackdoor.defenses.elimination import SearchContext
from codebackdoor.defenses.elimination.elibadcode.scan import Finding, LabelScan
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion import classifier, resume
from codebackdoor.defenses.views import DefenderView

SEARCH = EliBadCodeSettings(
    method="elibadcode",
    position="function_name",
    samples=4,
    length=3,
    iterations=5,
    top_k=16,
    candidates=8,
    keep_current=False,
    restarts=2,
)
VIEW = DefenderView(
    "defect_detection", "python", "lexed", tuple(sample(number) for number in range(30)), victim=victim(1, True)
)


class Killed(BaseException):
    pass


def scan(work: Path | None, settings: EliBadCodeSettings = SEARCH, code: str | None = None) -> list[Finding]:
    return LabelScan.draw(VIEW, settings, 1).run(SearchContext(work, code))


def outcomes(findings: Sequence[Finding]) -> list[object]:
    return [(finding.position, finding.label, finding.best) for finding in findings]


def kill_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the scan die in the step after ``steps``; return the list that counts its steps."""
    calls: list[int] = []
    real = classifier.raced

    def dying(*arguments: object) -> object:
        if len(calls) == steps:
            raise Killed
        calls.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(classifier, "raced", dying)
    return calls


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 12, 19])
def test_a_killed_scan_ends_as_an_undisturbed_one(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = outcomes(scan(None))
    monkeypatch.setattr(resume, "SAVE_INTERVAL", 0.0)
    with monkeypatch.context() as dying:
        kill_after(steps, dying)
        with pytest.raises(Killed):
            scan(tmp_path / "work")
    with monkeypatch.context() as counting:
        left = kill_after(1000, counting)
        assert outcomes(scan(tmp_path / "work")) == undisturbed
    # two labels, two starts, five steps: none is done twice
    assert len(left) == 20 - steps
    assert not list(tmp_path.rglob("*.part"))


def test_states_of_another_scan_are_not_used(tmp_path: Path) -> None:
    scan(tmp_path / "work")
    other_settings = SEARCH.model_copy(update={"candidates": 4})
    assert outcomes(scan(tmp_path / "work", other_settings)) == outcomes(scan(None, other_settings))


def test_states_of_another_code_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan(tmp_path / "work", code="one")
    steps = kill_after(1000, monkeypatch)
    scan(tmp_path / "work", code="one")
    assert not steps
    scan(tmp_path / "work", code="other")
    assert len(steps) == 20


def test_states_of_other_pairs_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger stands in the first function alone; what the second one says makes another search."""
    settings = SEARCH.model_copy(update={"pair": "code", "restarts": 1, "iterations": 2})
    steps = kill_after(1000, monkeypatch)
    for size in (5, 6):
        pairs = tuple(replace(example, code_b=sample(number + size).code) for number, example in enumerate(VIEW.clean))
        view = DefenderView("clone_detection", "python", "lexed", pairs, victim=understanding("first", "pair"))
        LabelScan.draw(view, settings, 1).run(SearchContext(tmp_path / "work"))
    assert len(steps) == 2 * 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "damaged"), ("{", "damaged"), ("[]", "damaged"), ('{"digest": 1}', "different inputs, settings or code")],
)
def test_a_damaged_file_of_states_is_passed_over(
    text: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "searches.json").write_text(text)
    assert outcomes(scan(tmp_path)) == outcomes(scan(None))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("the saved progress")
    assert reason in warning


def test_a_scan_without_a_file_of_states_warns_of_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    resume.SearchProgress(tmp_path, "digest")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_state_is_written_only_when_it_is_due(tmp_path: Path) -> None:
    progress = resume.SearchProgress(tmp_path, "digest")
    assert not progress.due()
    assert not resume.SearchProgress(None, "digest").due()
