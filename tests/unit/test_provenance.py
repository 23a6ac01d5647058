"""Provenance says how a result was made, and is written only once the result exists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codebackdoor.runs import provenance


def test_facts_of_process_and_machine_are_added_to_those_of_the_stage(tmp_path: Path) -> None:
    with provenance.recorded(tmp_path, {"stage": "predict", "seed": 1}) as more:
        more["phases"] = {"inversion": 1.5}
    facts = json.loads((tmp_path / "provenance.json").read_text())
    assert facts["phases"] == {"inversion": 1.5}
    assert facts["stage"] == "predict"
    assert facts["seconds"] >= 0
    assert facts["peak_mb"] > 1
    assert {"commit", "device", "host", "platform", "python", "started", "threads", "versions"} <= facts.keys()


def test_a_model_is_identified_by_its_commit_or_content_and_not_by_its_path(tmp_path: Path) -> None:
    commit = f"owner/name@{'a' * 40}"
    assert provenance.identity(Path(commit)) == commit
    assert provenance.identity(tmp_path / "hub/owner/name" / ("a" * 40)) == commit
    for name, text in (("one", "1"), ("same", "1"), ("other", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "SHA256SUMS").write_text(text)
    first, same, changed = (provenance.identity(tmp_path / name) for name in ("one", "same", "other"))
    assert first == same == provenance.identity(tmp_path / "one/SHA256SUMS") != changed
    assert provenance.identity(tmp_path / "nothing") == str(tmp_path / "nothing")


def test_nothing_is_recorded_of_a_stage_that_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), provenance.recorded(tmp_path, {"stage": "train"}):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_threads_are_those_that_the_libraries_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    provenance.record(tmp_path, {})
    assert json.loads((tmp_path / "provenance.json").read_text())["threads"] == 7


def test_outside_a_checkout_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() is None
