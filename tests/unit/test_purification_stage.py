"""The stages ``purify`` and ``rewrite``: files in, files out; the method is shown nothing but texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from purification_models import example, infiller, language_model
from safetensors.torch import load_file, save_file
from tiny_models import classifier, generator, understanding

from codebackdoor import cli, files
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.purification.oseql.settings import OSeqLSettings
from codebackdoor.defenses.purification.settings import measured_first
from codebackdoor.defenses.purification.similarity.settings import SimilaritySettings
from codebackdoor.defenses.stages import evidence
from codebackdoor.defenses.stages.job import DefenseJob
from codebackdoor.defenses.stages.purify import purify
from codebackdoor.defenses.stages.rewrite import rewrite
from codebackdoor.errors import UserError
from codebackdoor.tasks.clone_detection.settings import CloneDetection
from codebackdoor.tasks.code_repair.settings import CodeRepair
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, Poisoned, Span
from codebackdoor.victims import predictions
from codebackdoor.victims.inference import class_logits, predict
from codebackdoor.victims.victim import Victim, load_victim, save_victim

DEFECTS = DefectDetection(task="defect_detection")


def test_purified_and_predicted_rows_of_every_test_set(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    save_victim(classifier(), tmp_path / "victim", {"task": "defect_detection", "backdoored": True})
    model, tokenizer = infiller()
    model.save_pretrained(tmp_path / "infiller")
    tokenizer.save_pretrained(tmp_path / "infiller")
    clean = [replace(example(number), label=number % 2) for number in range(20)]
    triggered = [
        Poisoned(
            replace(example(number, "assert 1 >= 0"), id=f"t{number}", label=0), str(number), "a", "injected", 1, None
        )
        for number in range(1, 8)
    ]
    triggered[-1] = replace(triggered[-1], status="failed", spans=(Span(0, 1),))
    files.write_examples(tmp_path / "valid.jsonl", clean)
    files.write_examples(tmp_path / "test.jsonl", clean)
    files.write_rows(tmp_path / "triggered.jsonl", map(files.poisoned_row, triggered))
    dataset = DefectDetection(task="defect_detection")
    inputs = {"clean": tmp_path / "test.jsonl", "a": tmp_path / "triggered.jsonl"}
    helpers = {"infiller": tmp_path / "infiller"}
    for out in ("first", "second"):
        settings = CodePurifySettings(method="codepurify", touched_share=0.5)
        job = DefenseJob(
            dataset, tmp_path / "victim", tmp_path / "valid.jsonl", tmp_path / out, 3, helpers, testsets=inputs
        )
        purify(settings, job)
    texts = {
        name: [row.code for row in rows] for name, rows in (("clean", clean), ("a", [t.example for t in triggered]))
    }
    victim = load_victim(tmp_path / "victim")
    for name, ids in (("clean", [row.id for row in clean]), ("a", [row.example.id for row in triggered])):
        rows = [row for _, row in files.read_rows(tmp_path / "first" / f"purified.{name}.jsonl")]
        predictions = [row for _, row in files.read_rows(tmp_path / "first" / f"predictions.{name}.jsonl")]
        assert [row["id"] for row in rows] == [row["id"] for row in predictions] == ids
        assert all(set(row) == {"id", "label", "confidence"} for row in predictions)
        for row, old in zip(rows, texts[name], strict=True):
            assert bool(row["touched"]) == (row["code"] != old) == row["detail"]["poisoned"]
            assert row["detail"]["suspicion"] == -row["detail"]["entropy"]
        again = predict(victim, [Example(row["id"], "python", row["code"]) for row in rows])
        assert [row["label"] for row in predictions] == [prediction.label for prediction in again]
    for file in sorted((tmp_path / "first").iterdir()):
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
    assert json.loads((tmp_path / "first" / "purified.a.jsonl").read_text().splitlines()[0])["detail"]["profile"]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A victim with a backdoor, an infiller, and rows; ``kept`` holds the evidence of CodePurify's default settings."""
    folder = tmp_path_factory.mktemp("study")
    torch.set_num_threads(1)
    save_victim(
        replace(classifier(max_length=128), max_length=128),
        folder / "victim",
        {"task": "defect_detection", "backdoored": True},
    )
    model, tokenizer = infiller()
    model.save_pretrained(folder / "infiller")
    tokenizer.save_pretrained(folder / "infiller")
    clean = [replace(example(number), label=number % 2) for number in range(30)]
    files.write_examples(folder / "valid.jsonl", clean)
    files.write_examples(folder / "test.jsonl", [*clean[:20], replace(clean[0], id="again")])
    triggered = [
        Poisoned(replace(row, id=f"t{row.id}", label=0), row.id, "a", "injected", 1, None, (Span(0, 1),))
        for row in (example(number, "assert f ( ) >= 0") for number in range(12))
    ]
    files.write_rows(folder / "a.jsonl", map(files.poisoned_row, triggered))
    evidence.suspect(settings(), job_of(folder, folder / "kept"))
    return folder


def settings(**changes: Any) -> CodePurifySettings:
    return CodePurifySettings.model_validate({"method": "codepurify", "calibration_inputs": 20, **changes})


def job_of(folder: Path, out: Path, seed: int = 3, dataset: Any = DEFECTS) -> DefenseJob:
    """The job on a study's victim and rows that writes to ``out``."""
    testsets = {"clean": folder / "test.jsonl", "a": folder / "a.jsonl"}
    helpers = {"infiller": folder / "infiller"}
    return DefenseJob(dataset, folder / "victim", folder / "valid.jsonl", out, seed, helpers, testsets)


@pytest.mark.parametrize(
    "changes",
    [
        {"touched_share": 0.3},
        {"touched_share": 1},
        {"identifiers": False, "touched_share": 0.3},
        {"statements": False, "touched_share": 0.3},
        {"threshold": 1.2},
        {"normalization": "entropy_by_log_n", "touched_share": 0.3},
        {"overlap": "once", "touched_share": 0.3},
    ],
    ids=str,
)
def test_what_is_decided_by_kept_evidence_is_what_the_variant_alone_decides(
    changes: dict[str, Any], study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    purify(settings(**changes), job_of(study, tmp_path / "alone"))
    monkeypatch.setattr("codebackdoor.defenses.suspicion.scoring.score", no_victim)
    evidence.decide(settings(**changes), job_of(study, tmp_path / "kept"), study / "kept")
    assert written(tmp_path / "kept") == written(tmp_path / "alone")
    assert any(row["touched"] for _, row in files.read_rows(tmp_path / "kept/purified.clean.jsonl"))


#: For each, a variant under whose settings the evidence is measured, and variants that decide by it.
SHARED: dict[str, tuple[Any, ...]] = {
    "oseql": (
        OSeqLSettings(method="oseql", calibration_inputs=20),
        OSeqLSettings(method="oseql", calibration_inputs=20, fence=0.5, contamination=0.2),
        OSeqLSettings(method="oseql", calibration_inputs=20, touched_share=0.1),
    ),
    "pair": (
        CodePurifySettings(method="codepurify", calibration_inputs=20, pairs="joint"),
        CodePurifySettings(method="codepurify", calibration_inputs=20, pairs="joint", touched_share=0.4),
        CodePurifySettings(method="codepurify", calibration_inputs=20, pairs="joint", touched_share=1),
    ),
    "generation": (
        CodePurifySettings(method="codepurify", calibration_inputs=20, first_tokens=4),
        CodePurifySettings(method="codepurify", calibration_inputs=20, first_tokens=4, touched_share=0.4),
        CodePurifySettings(method="codepurify", calibration_inputs=20, first_tokens=4, statements=False, threshold=2),
    ),
}


@pytest.mark.parametrize("kind", list(SHARED))
def test_variants_share_a_measurement_on_labels_pairs_and_generated_texts(
    kind: str, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, *variants = SHARED[kind]
    assert set(measured_first({str(number): variant for number, variant in enumerate(SHARED[kind])}).values()) == {"0"}
    shutil.copytree(study / "infiller", tmp_path / "infiller")
    clean = [replace(example(number), label=number % 2) for number in range(14)]
    if kind == "pair":
        clean = [replace(row, code_b=example(int(row.id) + 30).code) for row in clean]
    if kind == "generation":
        clean = [replace(row, label=None, target=row.code) for row in clean]
    files.write_examples(tmp_path / "valid.jsonl", clean)
    files.write_examples(tmp_path / "test.jsonl", clean[::-1])
    files.write_rows(
        tmp_path / "a.jsonl",
        (
            files.poisoned_row(
                Poisoned(replace(row, id=f"t{row.id}"), row.id, "a", "injected", row.label, row.target, (Span(0, 1),))
            )
            for row in clean[:6]
        ),
    )
    dataset: Any = DEFECTS
    victim = undecided(replace(classifier(max_length=128), max_length=128), clean)
    if kind == "pair":
        dataset, victim = CloneDetection(task="clone_detection"), understanding("first", "pair", max_length=128)
    if kind == "generation":
        dataset, victim = CodeRepair(task="code_repair"), replace(generator(max_length=128), max_length=128)
    save_victim(victim, tmp_path / "victim", {"task": dataset.task, "backdoored": True})
    evidence.suspect(measured, job_of(tmp_path, tmp_path / "kept", dataset=dataset))
    for number, variant in enumerate((measured, *variants)):
        purify(variant, job_of(tmp_path, tmp_path / f"alone{number}", dataset=dataset))
        with monkeypatch.context() as patched:
            for name in ("suspicion.scoring", "purification.oseql.method"):
                patched.setattr(f"codebackdoor.defenses.{name}.predict_logits", no_victim)
            patched.setattr("codebackdoor.defenses.suspicion.scoring.generate", no_victim)
            evidence.decide(variant, job_of(tmp_path, tmp_path / f"kept{number}", dataset=dataset), tmp_path / "kept")
        assert written(tmp_path / f"kept{number}") == written(tmp_path / f"alone{number}")
    touched = [
        [row["touched"] for _, row in files.read_rows(tmp_path / f"kept{number}/purified.clean.jsonl")]
        for number in range(3)
    ]
    assert any(map(any, touched))
    assert touched[0] != touched[1] or touched[0] != touched[2]


def undecided(victim: Victim, rows: Sequence[Example]) -> Victim:
    """The victim with a bias that gives half of the rows either label, so that a line may decide."""
    layer = victim.model.classifier.out_proj
    with torch.no_grad():
        layer.weight *= 20
        logits = class_logits(victim, [encoded.ids for encoded in victim.encode([row.code for row in rows])])
        layer.bias[0] += (logits[:, 1] - logits[:, 0]).median()
    return victim


def no_victim(*_: object, **__: object) -> None:
    raise AssertionError("a decision asks no victim")


def test_evidence_has_the_elements_of_every_row_with_their_spans_and_scores(study: Path) -> None:
    rows = {row.id: row for row in files.read_examples(study / "test.jsonl")}
    measured = [row for _, row in files.read_rows(study / "kept/evidence.clean.jsonl")]
    assert [row["id"] for row in measured] == list(rows)
    for row in measured:
        for element in row["elements"]:
            start, end = element["code"]["span"]
            masked = [rows[row["id"]].code[first:last] for first, last in element["code"]["masked"]]
            text = rows[row["id"]].code[start:end]
            assert set(masked) == {text} if element["kind"] == "identifier" else set(masked) <= set(text.split())
            assert element["score"] == round(element["score"], 6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("victim", "victim"),
        ("infiller", "infiller"),
        ("settings", "settings"),
        ("seed", "seed"),
        ("valid.jsonl", "validation rows"),
        ("a.jsonl", "test set a"),
    ],
)
def test_other_evidence_is_refused_by_its_checksum(changed: str, message: str, study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    if changed == "victim":
        shutil.rmtree(folder / changed)
        save_victim(
            replace(classifier(1, 128), max_length=128),
            folder / "victim",
            {"task": "defect_detection", "backdoored": True},
        )
    elif changed == "infiller":
        weights = load_file(folder / "infiller/model.safetensors")
        save_file({name: value + 1 for name, value in weights.items()}, folder / "infiller/model.safetensors")
    elif changed.endswith(".jsonl"):
        (folder / changed).write_text("".join((folder / changed).read_text().splitlines(keepends=True)[:-1]))
    variant = settings(names="all") if changed == "settings" else settings()
    with pytest.raises(UserError, match=f"evidence is of another {message}; delete .*kept and make it with `codeb"):
        evidence.decide(variant, job_of(folder, tmp_path / "out", 4 if changed == "seed" else 3), folder / "kept")
    assert not (tmp_path / "out").exists()


def test_evidence_that_depends_on_other_inputs_is_refused(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Comparing:
        def evidence(self, inputs: Sequence[Example]) -> list[dict[str, Any]]:
            return [{"elements": [], "rank": len(inputs)} for _ in inputs]

    monkeypatch.setattr("codebackdoor.defenses.purification.codepurify.method.source", lambda *_: Comparing())
    with pytest.raises(UserError, match="must depend on that input only"):
        evidence.suspect(settings(), job_of(study, study / "refused"))


def test_what_is_rewritten_once_is_what_each_victim_would_have_purified(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    save_victim(classifier(), tmp_path / "victim", {"task": "defect_detection", "backdoored": True})
    model, tokenizer = language_model()
    model.save_pretrained(tmp_path / "causal")
    tokenizer.save_pretrained(tmp_path / "causal")
    valid, test = tmp_path / "valid.jsonl", tmp_path / "test.jsonl"
    rows = [replace(example(number), label=number % 2) for number in range(20)]
    files.write_examples(valid, rows)
    files.write_examples(test, rows)
    dataset, helpers = DefectDetection(task="defect_detection"), {"language_model": tmp_path / "causal"}
    settings = OnionSettings(method="onion", removed_share=0.1, calibration_inputs=20)
    purify(settings, DefenseJob(dataset, tmp_path / "victim", valid, tmp_path / "own", 3, helpers, {"clean": test}))
    rewrite(settings, dataset, valid, test, helpers, tmp_path / "all", 3)
    shared = {"clean": tmp_path / "all/purified.jsonl"}
    predictions.predict(tmp_path / "victim", {"clean": test}, tmp_path / "out", shared)
    for name in ("purified.clean.jsonl", "predictions.clean.jsonl"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert any(row["touched"] for _, row in files.read_rows(tmp_path / "out/purified.clean.jsonl"))
    shared["clean"].write_text("".join(shared["clean"].read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="was not rewritten"):
        predictions.predict(tmp_path / "victim", {"clean": test}, tmp_path / "out2", shared)
    assert not (tmp_path / "out2").exists()


def test_the_similarity_filter_reads_the_trigger_of_the_elimination(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    victim = classifier()
    save_victim(victim, tmp_path / "victim", {"task": "defect_detection", "backdoored": True})
    rows = [replace(example(number), label=number % 2) for number in range(6)]
    for name in ("valid", "test"):
        files.write_examples(tmp_path / f"{name}.jsonl", rows)
    trigger = victim.tokenizer(" def", add_special_tokens=False)["input_ids"]
    files.write_json(tmp_path / "trigger.json", {"flagged": True, "token_ids": trigger})
    files.write_json(tmp_path / "null.json", None)
    settings, dataset = SimilaritySettings(method="similarity"), DefectDetection(task="defect_detection")
    testsets = {"clean": tmp_path / "test.jsonl"}
    job = DefenseJob(dataset, tmp_path / "victim", tmp_path / "valid.jsonl", tmp_path / "out", 3, testsets=testsets)
    purify(settings, job, tmp_path / "trigger.json")
    purified = [row for _, row in files.read_rows(tmp_path / "out/purified.clean.jsonl")]
    assert all(row["touched"] and row["detail"]["trigger"] for row in purified)
    assert len(list(files.read_rows(tmp_path / "out/predictions.clean.jsonl"))) == len(rows)
    with pytest.raises(UserError, match="needs the trigger of an elimination before it"):
        purify(settings, replace(job, out=tmp_path / "none"), tmp_path / "null.json")


def test_without_a_trigger_the_command_says_what_to_write(tmp_path: Path) -> None:
    for name in ("victim", "valid"):
        (tmp_path / name).mkdir()
    result = CliRunner().invoke(
        cli.main,
        [
            *("purify", "--settings", '{"method": "similarity"}', "--dataset", '{"task": "defect_detection"}'),
            *("--victim", str(tmp_path / "victim"), "--valid", str(tmp_path / "valid")),
            *("--input", f"clean={tmp_path / 'valid'}", "--out", str(tmp_path / "out"), "--seed", "1"),
        ],
    )
    assert result.exit_code != 0
    assert "name the trigger.json of an elimination with --trigger" in str(result.exception) + result.output
