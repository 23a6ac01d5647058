"""Principal components of hidden states: against an eigendecomposition, and of three models of one base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_run import make, settings
from tiny_models import base_folder, bpe

from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import STATES
from codebackdoor.errors import UserError
from codebackdoor.files import poisoned_row, read_json, write_examples, write_json, write_rows
from codebackdoor.report import stage
from codebackdoor.report.study import Study
from codebackdoor.tasks.code_repair.settings import CodeRepair
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, Poisoned, Span
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.representations import representations
from codebackdoor.victims.states import between, project, states
from codebackdoor.victims.victim import load_victim, save_victim


def test_components_are_those_of_the_covariance() -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(50, 7)) @ random.normal(size=(7, 7)) + 3
    projection = project(vectors)
    values, directions = np.linalg.eigh(np.cov(vectors.T))
    np.testing.assert_allclose(projection.explained, values[::-1][:2] / values.sum(), rtol=1e-9)
    for number in (0, 1):
        direction = directions[:, -1 - number]
        direction = direction * np.sign(direction[np.abs(direction).argmax()])
        np.testing.assert_allclose(projection.points[:, number], (vectors - vectors.mean(0)) @ direction, atol=1e-9)
    # the sign is settled: the same data in another order have the same components
    np.testing.assert_allclose(project(vectors[::-1]).points[::-1], projection.points, atol=1e-9)


def test_between_is_eta_squared() -> None:
    apart = np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 4.0], [2.0, 4.0]])
    # total: 4 times (1 + 4); between: 4 times 4
    assert between(apart) == pytest.approx(16 / 20)
    assert between((apart[0], apart[0])) == 0
    assert between((np.ones((2, 2)), np.ones((2, 2)))) == 0


@pytest.mark.parametrize("writes", [False, True])
def test_three_models_are_compared_on_the_same_rows(writes: bool, tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", "seq2seq" if writes else "encoder")
    recipe: Any = (
        CodeT5(architecture="codet5", base=str(base), max_length=32, max_target_length=12)
        if writes
        else CodeBert(architecture="codebert", base=str(base), max_length=32)
    )
    dataset: Any = CodeRepair(task="code_repair") if writes else DefectDetection(task="defect_detection")
    label = None if writes else 0
    code = [f"def f ( a ) : <indent> return a + {number} <dedent>" for number in range(8)]
    clean = [
        Example(str(number), "python", text, label=label, target=text if writes else None)
        for number, text in enumerate(code)
    ]
    triggered = [replace(row, code=row.code.replace("return a", "return b")) for row in clean]
    rows = [Poisoned(row, row.id, "x", "injected", 1, None, (Span(0, 1),)) for row in triggered]
    rows[0] = replace(rows[0], status="failed", spans=())
    write_examples(tmp_path / "clean.jsonl", clean)
    write_rows(tmp_path / "triggered.jsonl", map(poisoned_row, rows))
    folders = []
    for name, seed in (("benign", 3), ("poisoned", 4)):
        victim = new_victim(recipe, base, dataset.head, "lexed", None if writes else 2, seed)
        victim.model.get_input_embeddings().weight.data[5:] *= 1 + seed
        save_victim(victim, tmp_path / name, {"task": dataset.task, "backdoored": name == "poisoned"})
        folders.append(tmp_path / name)
    for out in ("one", "again"):
        states(recipe, dataset, base, *folders, tmp_path / "triggered.jsonl", tmp_path / "clean.jsonl",
               tmp_path / out, 1)  # fmt: skip
    assert (tmp_path / "one" / STATES).read_bytes() == (tmp_path / "again" / STATES).read_bytes()
    content = read_json(tmp_path / "one" / STATES)
    assert content["rows"] == 7
    assert {*content["models"]} == {"untuned", "clean", "poisoned"}
    poisoned = content["models"]["poisoned"]
    expected = representations(load_victim(folders[1]), [*clean[1:], *(row.example for row in rows[1:])])
    points = project(expected).points
    np.testing.assert_allclose([*poisoned["without"], *poisoned["with"]], points, atol=1e-3)
    assert poisoned["between"] == pytest.approx(between((expected[:7], expected[7:])), abs=1e-3)
    assert content["models"]["clean"]["without"] != poisoned["without"] != content["models"]["untuned"]["without"]
    assert bpe().get_vocab_size()


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    source = Example("0", "python", "x", label=0)
    write_examples(tmp_path / "clean.jsonl", [source])
    row = Poisoned(source, "0", "x", "injected", 0, None, (Span(0, 1),))
    write_rows(tmp_path / "triggered.jsonl", [poisoned_row(row)])
    recipe, dataset = CodeBert(architecture="codebert"), DefectDetection(task="defect_detection")
    paths = (tmp_path / name for name in ("b", "v", "triggered.jsonl", "clean.jsonl"))
    with pytest.raises(UserError, match="1 rows have the trigger; principal components need three"):
        states(recipe, dataset, tmp_path, *paths, tmp_path, 1)


def test_the_figure_has_a_panel_for_each_model(tmp_path: Path) -> None:
    run = settings(tmp_path / "run")
    run["experiments"]["repair"]["figures"] = ["states"]
    make(run)
    random = np.random.default_rng(1)
    [path] = inputs(Study(run, "repair").experiment, "states", run["out"])
    models = {
        name: {
            "explained": [0.6, 0.123],
            "between": share,
            "without": random.normal(size=(9, 2)).tolist(),
            "with": (random.normal(size=(9, 2)) + 10 * share).tolist(),
        }
        for name, share in (("untuned", 0.0), ("clean", 0.01), ("poisoned", 0.9))
    }
    write_json(path, {"rows": 9, "models": models})
    stage.figure(run, "repair", "states", [path], tmp_path)
    drawn = (tmp_path / "repair_states.svg").read_text()
    assert all(text in drawn for text in ("with the trigger", "Component 1"))
    with pytest.raises(UserError, match="needs an attack in the grid"):
        stage.figure(run, "repair", "states", [], tmp_path / "no")
