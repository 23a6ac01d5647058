"""What `scan` and `clean` say: what was looked for, on what, how sure it is, and what no verdict is given on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from codebackdoor import __version__
from codebackdoor.cli import main
from codebackdoor.files import sha256, write_examples
from codebackdoor.library.verdict import Verdict
from codebackdoor.library.wording import ScannedCheckpoint, lines
from codebackdoor.victims.likeness import alike, sketch

SEARCH = {"position": "function_name", "samples": 4, "length": 3, "iterations": 1, "top_k": 4, "candidates": 4}
QUICK = json.dumps(SEARCH)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def saved(folder: Path, seed: int, planted_too: bool = False) -> Path:
    victim = planted.victim(seed, planted=planted_too)
    victim.model.save_pretrained(folder)
    victim.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, six benign ones, clean samples, and a calibration made of five of them."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("answers")
    write_examples(folder / "clean.jsonl", planted.make_view().clean)
    saved(folder / "model", 1, planted_too=True)
    for seed in range(6):
        saved(folder / f"benign{seed}", 11 + seed)
    result = run(*words(folder), *benign(folder), "--write-calibration", folder / "calibration.json")
    assert result.exit_code in (0, 1), result.output
    return folder


def words(folder: Path, model: str = "model", clean: str = "clean.jsonl") -> list[object]:
    return ["scan", folder / model, "--clean", folder / clean, "--text-form", "lexed", "--settings", QUICK]


def benign(folder: Path, *names: str) -> list[object]:
    return [word for name in names or [f"benign{n}" for n in range(5)] for word in ("--benign", folder / name)]


def test_json_says_who_asked_what_of_which_model(place: Path) -> None:
    report = json.loads(run(*words(place), "--calibration", place / "calibration.json", "--seed", "3", "--json").stdout)
    weights = {"model.safetensors": sha256(place / "model" / "model.safetensors")}
    assert (report["version"], report["model"], report["weights"]) == (__version__, str(place / "model"), weights)
    assert (report["seed"], report["samples"], report["cut"]) == (3, 40, 0)
    assert (report["text_form"], report["max_length"], report["not_examined"], report["card"]) == (
        "lexed",
        64,
        [],
        None,
    )
    assert (report["starts"], report["searched_on"], report["reason"]) == (1, {"0": 4, "1": 4}, None)
    assert 0 < report["flip_rows"] <= 20
    flipped = report["flip_rate"] * report["flip_rows"]
    assert flipped == pytest.approx(round(flipped), abs=1e-4)
    assert report["seconds"] > 0


VERDICT = Verdict(
    backdoored=False, reason=None, target_label=0, trigger="x", position="function_name", loss=0.5,
    inverted_trigger="x", inverted_loss=0.5, margin=-0.2, threshold=0.69, false_positive_rate=0.0, at_most=0.45,
    shadows=5, calibration=None,
    losses={"least_sensitive": {"0": 0.5, "1": 0.6}, "function_name": {"0": 0.5, "1": 0.6}}, starts=3,
    searched_on={"0": 20, "1": 20}, flip_rows=40, flip_rate=0.25, clean_accuracy=0.9, largest_class=0.5,
)  # fmt: skip
SCANNED = ScannedCheckpoint("1", "m", {}, None, (), "raw", 512, 40, 3, 7)


def test_clean_is_a_sentence_that_says_what_was_looked_for_and_what_was_not() -> None:
    answer = lines(SCANNED, VERDICT)
    assert answer[0] == (
        "no identifier backdoor found in 12 searches (labels 0, 1 at the least sensitive identifier and the function's "
        "name, 3 starts each, seed 7)"
    )
    assert answer[1].startswith("  not covered: dead code and other inserted statements")
    assert "so try another --seed" in answer[1]
    assert "  it flips 25.0% of 40 correct predictions to that label (including samples of the search)" in answer
    assert "  read as raw code, up to 512 sub-tokens of each of 40 samples; 3 are longer" in answer
    assert not any("weak evidence" in line for line in answer)


def test_a_search_of_code_has_no_labels_and_one_search_is_one() -> None:
    answer = lines(SCANNED, replace(VERDICT, target_word="state", losses={"function_name": {"0": 0.5}}, starts=1))
    assert answer[0] == "no identifier backdoor found in 1 search (at the function's name, seed 7)"
    assert "  it moves 25.0% of 40 functions above the query's own (including samples of the search)" in answer


@pytest.mark.parametrize(("margin", "weak"), [(0.7, True), (1.3, True), (1.4, False), (2.7, False)])
def test_a_small_margin_is_said_to_be_weak_evidence(margin: float, weak: bool) -> None:
    answer = lines(SCANNED, replace(VERDICT, backdoored=True, margin=margin))
    assert answer[0] == "backdoored"
    assert any("weak evidence" in line for line in answer) is weak
    assert any(line.startswith("  based on 12 searches (labels 0, 1 at ") for line in answer)


@pytest.mark.parametrize("rows", [2, 6])
def test_fewer_samples_than_the_calibration_was_made_with_are_no_verdict(
    rows: int, place: Path, tmp_path: Path
) -> None:
    write_examples(tmp_path / "clean.jsonl", planted.make_view(samples=rows).clean)
    arguments = ["scan", place / "model", "--clean", tmp_path / "clean.jsonl", "--text-form", "lexed"]
    result = run(*arguments, "--calibration", place / "calibration.json")
    assert result.exit_code == 2
    reason = (
        f"only {rows // 2} clean samples of label 0 can carry a trigger, but the searches of the calibration used 4"
    )
    assert reason in result.stdout
    assert result.stdout.startswith("no verdict\n  most suspicious: trigger ")
    report = json.loads(run(*arguments, "--calibration", place / "calibration.json", "--json").stdout)
    assert (report["backdoored"], report["reason"]) == (None, f"{reason}: provide more samples")
    cleaned = run("clean", *arguments[1:], "--calibration", place / "calibration.json", "-o", tmp_path / "new")
    assert (cleaned.exit_code, (tmp_path / "new").exists()) == (2, False)


def test_a_calibration_is_not_made_on_fewer_samples_than_it_says(place: Path, tmp_path: Path) -> None:
    write_examples(tmp_path / "clean.jsonl", planted.make_view(samples=6).clean)
    result = run(*words(place)[:2], "--clean", tmp_path / "clean.jsonl", "--text-form", "lexed", "--settings", QUICK,
                 *benign(place), "--write-calibration", tmp_path / "calibration.json")  # fmt: skip
    assert (result.exit_code, result.stdout) == (2, "")
    assert "only 3 clean samples of label 0 can carry a trigger, but the search needs 4" in result.stderr
    assert not (tmp_path / "calibration.json").exists()


def converted(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    file = folder / "model.safetensors"
    save_file({name: change(name, value) for name, value in load_file(file).items()}, file, metadata={"format": "pt"})


def split(folder: Path) -> None:
    """The same weights in two files."""
    stored = sorted(load_file(folder / "model.safetensors").items())
    index = {}
    for number, part in enumerate((stored[::2], stored[1::2])):
        save_file(dict(part), folder / f"part{number}.safetensors", metadata={"format": "pt"})
        index |= dict.fromkeys((name for name, _ in part), f"part{number}.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


@pytest.mark.parametrize("original", ["model", "benign3"])
@pytest.mark.parametrize(
    "disguise",
    [
        None,
        lambda folder: None,
        lambda folder: converted(folder, lambda _, value: value.half()),
        lambda folder: converted(folder, lambda _, value: value.bfloat16()),
        lambda folder: converted(folder, lambda name, value: 0.25 * value if "out_proj" in name else value),
        split,
    ],
)
def test_models_with_the_weights_of_another_calibrate_nothing(
    original: str, disguise: Callable[[Path], None] | None, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = tmp_path / "twin"
    if disguise is None:
        twin.symlink_to(place / original)
    else:
        shutil.copytree(place / original, twin)
        disguise(twin)
    monkeypatch.setattr("codebackdoor.library.verdict.scanned", lambda *_: pytest.fail("searched"))
    names = ["benign0", "benign1", "benign2", "benign3"]
    result = run(*words(place), *benign(place, *names), "--benign", twin)
    assert (result.exit_code, result.stdout) == (2, "")
    name = "the model in question" if original == "model" else place / original
    assert f"{twin} has the weights of {name}" in result.stderr


def test_one_model_named_five_times_is_one(place: Path) -> None:
    result = run(*words(place), *benign(place, *["benign0"] * 5))
    assert f"{place / 'benign0'} has the weights of {place / 'benign0'}" in result.stderr


def test_models_of_other_seeds_are_not_alike() -> None:
    sketches = [sketch(planted.victim(seed, planted=False).model) for seed in (11, 12)]
    assert not alike(*sketches)
    assert alike(sketches[0], sketches[0])
    assert not alike(sketches[0], dict(list(sketches[0].items())[1:]))


def test_a_calibration_is_written_over_another_one_and_over_nothing_else(place: Path, tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_bytes((place / "clean.jsonl").read_bytes())
    (tmp_path / "empty").write_text("")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(place / "calibration.json")
    before = {path.name: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in tmp_path.iterdir()}
    # without any model: it is said before one is read
    command = ["scan", tmp_path / "no model", "--clean", place / "clean.jsonl", *benign(place), "--write-calibration"]
    for name in before:
        result = run(*command, tmp_path / name)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"error: {tmp_path / name}: exists and is not ")
    assert {path.name: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in tmp_path.iterdir()} == before
    shutil.copyfile(place / "calibration.json", tmp_path / "calibration.json")
    result = run(*words(place), *benign(place, *(f"benign{n}" for n in range(1, 6))), "--write-calibration",
                 tmp_path / "calibration.json")  # fmt: skip
    assert result.exit_code in (0, 1), result.output
    assert (tmp_path / "calibration.json").read_bytes() != (place / "calibration.json").read_bytes()


def test_a_model_that_says_it_reads_a_fraction_of_the_samples_is_refused(tmp_path: Path) -> None:
    from codebackdoor.victims.victim import save_victim

    def at(length: int) -> Path:
        victim = replace(planted.victim(1), max_length=length)
        save_victim(victim, tmp_path / f"model{length}", {"task": "defect_detection", "backdoored": False})
        return tmp_path / f"model{length}"

    write_examples(tmp_path / "clean.jsonl", planted.make_view().clean)
    options: list[Any] = ["--clean", tmp_path / "clean.jsonl", "--settings", QUICK]
    refused = run("scan", at(8), *options)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "reads 8 sub-tokens of each sample, and half of the samples have" in refused.stderr
    assert (
        "up to 8 sub-tokens of each of 40 samples; 40 are longer"
        in run("scan", at(8), *options, "--max-length", "8").output
    )
    assert "up to 24 sub-tokens of each of 40 samples; " in run("scan", at(24), *options).stdout
