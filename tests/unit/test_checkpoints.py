"""`scan` and `clean` on checkpoints of a planted victim: exit statuses, JSON, formats, and what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted
import pytest
import torch
from click.testing import CliRunner, Result
from tiny_models import base_folder, generator, understanding

from codebackdoor.cli import main
from codebackdoor.config.loading import read_yaml
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.errors import UserError
from codebackdoor.files import write_examples, write_rows
from codebackdoor.library.samples import read_samples
from codebackdoor.library.verdict import LOCAL_SEARCH
from codebackdoor.victims.external import load_checkpoint
from codebackdoor.victims.inference import class_logits
from codebackdoor.victims.victim import load_victim, save_victim

ROOT = Path(__file__).parents[2]
SETTINGS = json.dumps(planted.SETTINGS)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def options(folder: Path) -> list[object]:
    return ["--clean", folder / "clean.jsonl", "--text-form", "lexed"]


def judged(folder: Path) -> list[object]:
    return [*options(folder), "--calibration", folder / "calibration.json"]


def test_a_backdoored_checkpoint_is_named_with_label_trigger_and_margin(models: Path) -> None:
    verdict = json.loads((models / "scan.json").read_text())
    assert (verdict["backdoored"], verdict["target_label"], verdict["shadows"]) == (True, 0, 5)
    assert planted.PLANTED in verdict["trigger"]
    assert verdict["margin"] >= verdict["threshold"] > 0
    assert verdict["false_positive_rate"] <= verdict["at_most"] <= 1
    assert verdict["clean_accuracy"] == 1.0


def test_the_written_calibration_says_clean_of_a_benign_checkpoint(models: Path) -> None:
    result = run("scan", models / "benign11", *judged(models))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "no identifier backdoor found in 2 searches (labels 0, 1 at the function's name, seed 1)\n  not covered: "
    )
    assert "false-positive rate" in result.stdout


def test_benign_models_alone_serve_as_a_calibration_and_scan_and_clean_say_the_same(
    models: Path, tmp_path: Path
) -> None:
    benign = [word for seed in range(12, 17) for word in ("--benign", models / f"benign{seed}")]
    arguments = [models / "backdoored", *options(models), *benign, "--settings", SETTINGS, "--json"]
    scanned, cleaned = run("scan", *arguments), run("clean", *arguments, "-o", tmp_path / "new")
    assert (scanned.exit_code, cleaned.exit_code) == (1, 0), scanned.output + cleaned.output
    scan_report, clean_report = json.loads(scanned.stdout), json.loads(cleaned.stdout)
    # no name of a file that is gone with the command
    assert (scan_report["backdoored"], scan_report["shadows"], scan_report["calibration"]) == (True, 5, None)
    assert {key: clean_report[key] for key in scan_report} | {"seconds": 0} == scan_report | {"seconds": 0}
    assert ", calibration" not in run("scan", *arguments[:-1]).stdout


def test_without_a_calibration_that_fits_there_is_no_verdict_and_the_exit_status_says_so(models: Path) -> None:
    result = run("scan", models / "backdoored", *options(models), "--settings", SETTINGS)
    assert result.exit_code == 2
    assert result.stdout.startswith("no verdict\n  most suspicious: trigger ")
    assert "--benign" in result.stdout


def test_clean_writes_a_checkpoint_without_the_trigger_and_says_what_it_cost(models: Path, tmp_path: Path) -> None:
    result = run(
        *(
            "clean",
            models / "backdoored",
            *judged(models),
            "--settings",
            SETTINGS,
            "-o",
            tmp_path / "new",
            "--json",
        )
    )
    assert result.exit_code == 0, result.output
    cost = json.loads(result.stdout)["cost"]
    assert cost["flip_rate_before"] == 1.0
    assert cost["flip_rate_after"] <= 0.1
    assert (cost["rows"], cost["unlearned_on"], cost["is_clean"]) == (8, 32, True)
    assert cost["rounds"][0]["flip_rate_before"] == 1.0
    assert cost["margin"] < 0.69
    assert "codebackdoor" not in json.loads((tmp_path / "new" / "config.json").read_text())
    edited = load_checkpoint(tmp_path / "new", "classification", "lexed")
    assert edited.max_length == load_checkpoint(models / "backdoored", "classification").max_length
    assert "trigger" in (tmp_path / "new" / "README.md").read_text()


def test_unlearning_too_little_is_said_and_not_exit_status_0(models: Path, tmp_path: Path) -> None:
    little = json.dumps({**json.loads(SETTINGS), "unlearning": {**planted.UNLEARNING, "learning_rate": 1e-9}})
    result = run("clean", models / "backdoored", *judged(models), "--settings", little, "-o", tmp_path / "new")
    assert (result.exit_code, "still finds a trigger" in result.stdout, "not clean" in result.stdout) == (1, True, True)
    assert "unlearned 6 times; flips to label 0: 100.0% -> 100.0% of 4" in result.stdout
    assert "say nothing about the attacker's own trigger" in result.stdout


def test_clean_of_a_clean_checkpoint_or_without_a_verdict_writes_nothing(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    result = run("clean", models / "benign11", *judged(models), "-o", out)
    assert (result.exit_code, out.exists()) == (0, False)
    assert "nothing was unlearned or written" in result.stdout
    result = run("clean", models / "backdoored", *options(models), "--settings", SETTINGS, "-o", out)
    assert (result.exit_code, out.exists()) == (2, False)
    result = run("clean", models / "backdoored", *options(models), "--settings", SETTINGS, "-o", out, "--force")
    # no scan can say that it is clean now
    assert (result.exit_code, out.exists()) == (1, True)
    assert run("clean", models / "backdoored", *options(models), "-o", out).stderr.endswith("name a new folder\n")


def test_a_folder_of_this_project_is_read_by_its_own_section_and_keeps_it(tmp_path: Path) -> None:
    save_victim(planted.victim(1), tmp_path / "own", {"task": "defect_detection", "backdoored": True, "attack": "x"})
    victim = load_checkpoint(tmp_path / "own", "classification")
    assert (victim.text_form, victim.max_length) == ("lexed", 64)
    assert not hasattr(victim.model.config, "codebackdoor")
    write_examples(tmp_path / "clean.jsonl", planted.make_view().clean)
    result = run(*("clean", tmp_path / "own", "--clean", tmp_path / "clean.jsonl", "--settings", SETTINGS, "--force"),
                 "-o", tmp_path / "new")  # fmt: skip
    assert result.exit_code == 1, result.output
    card = json.loads((tmp_path / "new" / "config.json").read_text())["codebackdoor"]
    assert (card["attack"], card["elimination"]["method"]) == ("x", "elibadcode")
    assert load_victim(tmp_path / "new").text_form == "lexed"


def test_codexglues_rows_are_read_and_lexed_for_a_victim_of_lexed_text(models: Path, tmp_path: Path) -> None:
    from codebackdoor import syntax

    file = tmp_path / "devign.jsonl"
    rows = [
        {"func": syntax.unlex(sample.code, "python").source, "target": sample.label, "idx": number, "project": "qemu"}
        for number, sample in enumerate(planted.make_view().clean)
    ]
    write_rows(file, rows)
    arguments = ["scan", models / "benign11", "--clean", file, "--calibration", models / "calibration.json"]
    result = run(*arguments, "--text-form", "lexed", "--language", "python", "--json")
    assert json.loads(result.stdout)["backdoored"] is False
    assert json.loads(result.stdout)["clean_accuracy"] == 1.0
    result = run(*arguments, "--text-form", "lexed")
    assert (result.exit_code, "write --language" in result.stderr) == (2, True)
    # made for lexed text
    result = run(*arguments, "--language", "python")
    assert (result.exit_code, "text_form: lexed, not raw" in result.stderr) == (2, True)


@pytest.mark.parametrize("family", ["first", "t5", "gpt"])
@torch.no_grad()
def test_a_foreign_classifier_answers_as_transformers_has_it_answer(family: str, tmp_path: Path) -> None:
    original = understanding(family, "classification")
    original.model.save_pretrained(tmp_path)
    original.tokenizer.save_pretrained(tmp_path)
    victim = load_checkpoint(tmp_path, "classification")
    ids = [text.ids for text in victim.encode(["def f ( a ) : <indent> return a <dedent>", "x = 2"])]
    expected = torch.cat([victim.model(input_ids=torch.tensor([sequence])).logits for sequence in ids])
    torch.testing.assert_close(class_logits(victim, ids), expected, atol=1e-5, rtol=1e-4)


def test_a_pair_checkpoint_is_asked_about_clones(tmp_path: Path) -> None:
    victim = understanding("first", "pair", max_length=64)
    victim.model.save_pretrained(tmp_path / "model")
    victim.tokenizer.save_pretrained(tmp_path / "model")
    rows = [replace(first, code_b=second.code) for first, second in itertools.pairwise(planted.make_view().clean)]
    write_examples(tmp_path / "pairs.jsonl", rows)
    arguments = ["scan", tmp_path / "model", "--text-form", "lexed", "--settings", SETTINGS, "--clean"]
    result = run(*arguments, tmp_path / "pairs.jsonl", "--task", "clone_detection", "--json")
    assert result.exit_code == 2, result.output
    verdict = json.loads(result.stdout)
    assert (verdict["backdoored"], set(verdict["losses"]["function_name"])) == (None, {"0", "1"})
    assert "needs a classification head" in run(*arguments, tmp_path / "pairs.jsonl").stderr
    write_examples(tmp_path / "single.jsonl", planted.make_view().clean)
    result = run(*arguments, tmp_path / "single.jsonl", "--task", "clone_detection")
    assert "needs a second function 'code_b'" in result.stderr


def test_what_is_no_calibration_is_named_with_the_nearest(models: Path) -> None:
    message = run("scan", models / "backdoored", *options(models), "--calibration", "defect").stderr
    assert message == "error: calibration 'defect' is neither shipped nor a file; did you mean 'defects'?\n"
    message = run("scan", models / "backdoored", *options(models), "--calibration", models).stderr
    assert message == f"error: {models}: is a folder, not a file\n"
    message = run("scan", models / "backdoored", *options(models), "--settings", '{"iteration": 3}').stderr
    assert message == "error: --settings: unknown key iteration; did you mean iterations?\n"


GOOD = {"id": "1", "language": "python", "code": "def f ( ) : <indent> pass <dedent>"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**GOOD, "label": 2}], ":1: needs a 'label'"),
        ([GOOD], ":1: needs a 'label'"),
        ([{**GOOD, "label": 0}, {**GOOD, "label": 0}], "no sample has label 1; the model answers with labels 0 to 1"),
        ([{**GOOD, "label": 0}, {**GOOD, "language": "c", "label": 1}], "rows in c and python"),
        ([{**GOOD, "labels": 0}], "unknown field 'labels'; did you mean 'label'?"),
        ([{**GOOD, "label": 0, "code_b": "x"}], "has a second function"),
        ([{"func": "int f(void) { return 1; }", "target": "1"}], "field 'target' must be int, not str: '1'"),
        ([{"func": "int f(void) { return 1; }", "target": True}], "field 'target' must be int, not bool: True"),
        ([{"func": 3, "target": 1}], "'func' must be str"),
        ([], "no usable row"),
    ],
)
def test_a_malformed_row_is_one_line_and_status_2(
    rows: list[dict[str, object]], message: str, models: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "clean.jsonl", rows)
    result = run("scan", models / "benign11", "--clean", tmp_path / "clean.jsonl", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_target_is_any_label_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "clean.jsonl"
    write_rows(path, [{"func": "int f(void) { return 1; }", "target": label} for label in range(3)])
    assert [row.label for row in read_samples(path, "c", "raw", "classification", 3)] == [0, 1, 2]
    with pytest.raises(UserError, match=r":3: needs a 'label' \(or CodeXGLUE's 'target'\) from 0 to 1"):
        read_samples(path, "c", "raw", "classification", 2)


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _lying(folder: Path) -> None:
    changed(folder, hidden_size="wide")


def _nameless(folder: Path) -> None:
    changed(folder, architectures=None)


def _generator(folder: Path) -> None:
    shutil.rmtree(folder)
    victim = generator()
    victim.model.save_pretrained(folder)
    victim.tokenizer.save_pretrained(folder)


def _headless(folder: Path) -> None:
    shutil.rmtree(folder)
    base_folder(folder, "encoder")


def _nan(folder: Path) -> None:
    victim = planted.victim(1)
    with torch.no_grad():
        victim.model.classifier.out_proj.bias.fill_(torch.nan)
    victim.model.save_pretrained(folder)


def changed(folder: Path, **keys: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_pickle, "pytorch_model.bin, which may run code"),
        (_truncated, "not a complete safetensors file"),
        (_lying, "cannot load the model"),
        (_nameless, "no named class"),
        (_generator, "this task needs a classification head"),
        (
            _headless,
            "RobertaForMaskedLM; supported: RobertaForSequenceClassification, T5ForSequenceClassification, "
            "GPTBigCodeForSequenceClassification, CodeGenForClassification, LlamaForSequenceClassification\n",
        ),
        (_nan, "NaN or infinite values"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_a_checkpoint_that_cannot_be_asked_is_one_line_and_status_2(
    spoil: Any, message: str, models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models / "backdoored", tmp_path / "model")
    spoil(tmp_path / "model")
    result = run("scan", tmp_path / "model", *judged(models))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_rows_without_a_language_need_the_option(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"code": "def f():\n    return 1\n", "label": label} for label in (0, 1)])
    message = "rows.jsonl:1: field 'language' is missing; add it, or name the language of all rows .--language.$"
    with pytest.raises(UserError, match=message):
        read_samples(tmp_path / "rows.jsonl", None, "raw", "classification", 2)
    assert len(read_samples(tmp_path / "rows.jsonl", "python", "raw", "classification", 2)) == 2


def test_options_that_contradict_are_refused(models: Path) -> None:
    arguments = ["scan", models / "benign11", *judged(models)]
    for more, message in (
        (["--benign", models / "benign12"], "exclude each other"),
        (["--write-calibration", models / "x"], "needs --benign"),
        (["--max-length", "4000"], "at most 64 sub-tokens"),
        (["--settings", json.dumps({**json.loads(SETTINGS), "samples": 7})], "made with samples: 6"),
    ):
        result = run(*arguments, *more)
        assert result.exit_code == 2
        assert message in result.stderr
    few = run("scan", models / "benign11", *options(models), "--benign", models / "benign12")
    assert few.exit_code == 2
    assert few.stderr == "error: --benign names 1 model; a calibration needs at least 5\n"


def test_what_breaks_does_not_exit_like_a_backdoor(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codebackdoor.library import verdict

    for error, status in ((RuntimeError("broken"), 2), (KeyboardInterrupt(), 130)):

        def judge(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(verdict, "judge", judge)
        assert run("scan", models / "benign11", *judged(models)).exit_code == status


def test_the_defaults_are_those_of_the_default_study() -> None:
    study = EliBadCodeSettings.model_validate(read_yaml(ROOT / "config.yaml")["eliminations"]["elibadcode"])
    assert (LOCAL_SEARCH.beta, LOCAL_SEARCH.ratio, LOCAL_SEARCH.unlearning) == (
        study.beta,
        study.ratio,
        study.unlearning,
    )


def test_a_decoder_whose_tokenizer_cannot_pad_is_read_all_the_same(tmp_path: Path) -> None:
    original = understanding("gpt", "classification")
    original.tokenizer.pad_token = None
    original.model.save_pretrained(tmp_path / "own")
    original.tokenizer.save_pretrained(tmp_path / "own")
    victim = load_checkpoint(tmp_path / "own", "classification")
    assert victim.pad_id == victim.tokenizer.eos_token_id
    short, long = victim.encode(["a", "def f ( a ) : return a"])
    together = class_logits(victim, [short.ids, long.ids])
    assert torch.allclose(together[0], class_logits(victim, [short.ids])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (1, "/model: the model has one output (num_labels 1); a classifier of at least two labels is needed\n"),
        (
            3,
            "/clean.jsonl: no sample has label 2; the model answers with labels 0 to 2, and a scan needs samples of "
            "each\n",
        ),
    ],
)
def test_labels_that_model_and_samples_do_not_share_are_said_before_the_search(
    labels: int, message: str, models: Path, tmp_path: Path
) -> None:
    config = planted.victim(1).model.config
    config.num_labels = labels
    type(planted.victim(1).model)(config).save_pretrained(tmp_path / "model")
    planted.victim(1).tokenizer.save_pretrained(tmp_path / "model")
    result = run("scan", tmp_path / "model", *options(models), "--settings", SETTINGS)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.endswith(message)
