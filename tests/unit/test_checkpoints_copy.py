"""What `clean` writes: byte for byte what it does not change, nothing that runs, and one whole folder or none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import planted
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from codebackdoor.cli import main
from codebackdoor.errors import UserError
from codebackdoor.files import write_examples
from codebackdoor.victims.checksums import verify_sums
from codebackdoor.victims.edited import copy_unedited, run_elsewhere, stored_as
from codebackdoor.victims.external import load_checkpoint
from codebackdoor.victims.likeness import alike, sketch
from codebackdoor.victims.precision import rounded
from codebackdoor.victims.victim import save_victim

#: A search and an edit that take a moment, and leave the trigger as it is.
EDIT = {"layers": "all", "epochs": 1, "learning_rate": 1e-4}
SEARCH = {"position": "function_name", "samples": 4, "length": 3, "iterations": 1, "top_k": 4, "candidates": 4}
QUICK = json.dumps({**SEARCH, "unlearning": EDIT})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    victim = planted.victim(1)
    victim.model.save_pretrained(folder)
    victim.tokenizer.save_pretrained(folder)
    write_examples(tmp_path / "clean.jsonl", planted.make_view().clean)
    return folder


def words(model: Path, command: str = "clean") -> list[object]:
    more = ["--force", "-o", model.parent / "new"] if command == "clean" else []
    return [command, model, "--clean", model.parent / "clean.jsonl", "--text-form", "lexed", "--settings", QUICK, *more]


def cleaned(model: Path) -> Path:
    result = run(*words(model))
    assert result.exit_code in (0, 1), result.output
    assert f"  written to {model.parent / 'new'}\n" in result.stdout
    return model.parent / "new"


def change(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_files_that_unlearning_does_not_change_are_the_same_bytes(model: Path) -> None:
    # as transformers 4 writes it
    (model / "tokenizer_config.json").write_text(
        '{"model_max_length": 64, "tokenizer_class":  "RobertaTokenizer", "add_prefix_space": true}'
    )
    special = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    (model / "special_tokens_map.json").write_text(json.dumps(special))
    (model / "vocab.json").write_text("{ }")
    (model / "LICENSE").write_text("terms")
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    new = cleaned(model)
    for name in before.keys() - {"model.safetensors"}:
        assert (new / name).read_bytes() == before[name], name
    assert {path.name for path in new.iterdir()} == before.keys() | {"README.md", "SHA256SUMS"}
    assert weights(new).keys() == weights(model).keys()
    assert any(not torch.equal(value, weights(new)[name]) for name, value in weights(model).items())
    verify_sums(new)
    assert (new / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_keep_their_number_format_and_what_is_measured_is_what_is_written(
    dtype: torch.dtype, model: Path
) -> None:
    save_file({name: value.to(dtype) for name, value in weights(model).items()}, model / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    change(model / "config.json", dtype=str(dtype).removeprefix("torch."))
    config = (model / "config.json").read_bytes()
    new = cleaned(model)
    assert {value.dtype for value in weights(new).values()} == {dtype}
    assert (new / "config.json").read_bytes() == config
    assert (new / "model.safetensors").stat().st_size == (model / "model.safetensors").stat().st_size
    victim = load_checkpoint(new, "classification", "lexed")
    for name, value in victim.model.state_dict().items():
        assert torch.equal(value.to(dtype), weights(new)[name])


def test_weights_of_several_number_formats_are_written_as_float32_and_the_answer_says_so(model: Path) -> None:
    stored = weights(model)
    first = sorted(stored)[0]
    save_file(stored | {first: stored[first].half()}, model / "model.safetensors", metadata={"format": "pt"})
    change(model / "config.json", torch_dtype="float16")
    assert stored_as(model) is None
    result = run(*words(model))
    assert "its weights had several number formats and are now float32" in result.stdout
    new = model.parent / "new"
    assert {value.dtype for value in weights(new).values()} == {torch.float32}
    assert json.loads((new / "config.json").read_text())["torch_dtype"] == "float32"


def test_rounding_changes_each_weight_to_one_that_the_format_has() -> None:
    victim = planted.victim(1)
    before = sketch(victim.model)
    assert rounded(victim, torch.bfloat16) is victim
    after = sketch(victim.model)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(weight, weight.bfloat16().float()) for weight in victim.model.parameters())
    assert alike(before, after)


HOSTILE = {
    "config.json": {
        "auto_map": {"AutoModel": "attacker/repo--evil.M"},
        "custom_pipelines": {"x": {}},
        "text_config": {"auto_map": {"AutoConfig": "attacker/repo--evil.C"}, "hidden_size": 3},
    },
    "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["a/b--c.D", None]}, "chat_template": "{{ evil }}"},
}
BESIDE = (
    *("chat_template.jinja", "code/modeling.py", "model.onnx", "other.safetensors"),
    *("pytorch_model.bin", "training_args.pt"),
)


@pytest.fixture
def hostile(model: Path) -> Path:
    for name, keys in HOSTILE.items():
        change(model / name, **keys)
    (model / "code").mkdir()
    for name in BESIDE:
        (model / name).write_text("evil")
    shutil.copyfile(model / "model.safetensors", model / "other.safetensors")
    return model


def test_what_other_readers_would_run_is_said_by_a_scan_and_not_handed_on(hostile: Path) -> None:
    keys = [f"{key} in {name}" for name, values in HOSTILE.items() for key in values if key != "text_config"]
    assert run_elsewhere(hostile) == tuple(sorted([*BESIDE, *keys])) != ()
    result = run(*words(hostile, "scan"))
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stdout.splitlines() if "not examined" in line]
    assert lines == [
        f"  not examined, although other software would run or load it: {', '.join(run_elsewhere(hostile))}"
    ]
    new = cleaned(hostile)
    assert run_elsewhere(new) == ()
    config, original = (json.loads((folder / "config.json").read_text()) for folder in (new, hostile))
    assert config.pop("text_config") == {"hidden_size": 3}
    assert config == {key: value for key, value in original.items() if key not in HOSTILE["config.json"]}
    tokenizer = json.loads((new / "tokenizer_config.json").read_text())
    assert not tokenizer.keys() & HOSTILE["tokenizer_config.json"].keys()
    assert {path.name for path in new.iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md", "SHA256SUMS")
    }
    readme = (new / "README.md").read_text()
    assert "not copied: " in readme
    assert all(name in readme for name in (*BESIDE, *keys))


def test_ways_to_read_weights_that_a_model_cannot_be_loaded_with_are_no_part_of_a_copy(model: Path) -> None:
    """They are refused where a model is loaded, and again where one is written."""
    change(model / "config.json", quantization_config={"quant_method": "gptq"}, attn_implementation="owner/kernel")
    assert run_elsewhere(model) == ("attn_implementation in config.json", "quantization_config in config.json")
    (model.parent / "new").mkdir()
    copy_unedited(model, model.parent / "new")
    shutil.copyfile(model / "model.safetensors", model.parent / "new" / "model.safetensors")
    written = json.loads((model.parent / "new" / "config.json").read_text())
    assert not written.keys() & {"quantization_config", "attn_implementation"}
    change(model.parent / "new" / "config.json", attn_implementation="sdpa")
    assert run_elsewhere(model.parent / "new") == ()


def test_a_folder_without_such_things_is_not_talked_about(model: Path) -> None:
    assert run_elsewhere(model) == ()
    assert "not examined" not in run(*words(model, "scan")).stdout


def test_names_of_files_do_not_reach_the_terminal_as_they_are(model: Path) -> None:
    (model / "a\x1b[2J\nclean.py").write_text("")
    Path(os.fsdecode(os.fsencode(model) + b"/\xff.bin")).write_bytes(b"")
    result = run(*words(model, "scan"))
    assert "load it: \\xff.bin, a\\x1b[2J\\nclean.py\n" in result.stdout
    assert "\x1b" not in result.stdout
    assert json.loads(run(*words(model, "scan"), "--json").stdout)["not_examined"] == [
        "\\xff.bin",
        "a\\x1b[2J\\nclean.py",
    ]


def test_a_card_that_claims_a_backdoor_says_before_the_edit_afterwards(tmp_path: Path) -> None:
    model = tmp_path / "none"
    save_victim(planted.victim(1), model, {"task": "defect_detection", "backdoored": True, "attack": "x"})
    write_examples(tmp_path / "clean.jsonl", planted.make_view().clean)
    claim = "the model card in config.json says that the model is backdoored; this claim of its author was not used"
    assert claim in run(*words(model, "scan")).stdout
    new = cleaned(model)
    card = json.loads((new / "config.json").read_text())["codebackdoor"]
    assert "backdoored" not in card
    assert (card["backdoored_before"], card["attack"], card["elimination"]["method"]) == (True, "x", "elibadcode")
    readme = (new / "README.md").read_text()
    assert readme.startswith("# RobertaForSequenceClassification, edited by `codebackdoor clean`\n")
    assert "carries a backdoor" not in readme
    shutil.move(new, tmp_path / "again")
    assert (
        "says that the model is backdoored, before an elimination edited it; this claim"
        in run(*words(tmp_path / "again", "scan")).stdout
    )


def test_a_benign_card_is_not_talked_about(tmp_path: Path) -> None:
    save_victim(planted.victim(1), tmp_path / "model", {"task": "defect_detection", "backdoored": False})
    write_examples(tmp_path / "clean.jsonl", planted.make_view().clean)
    assert "card" not in run(*words(tmp_path / "model", "scan")).stdout


def test_a_place_for_the_folder_is_judged_before_the_model_is_read(model: Path) -> None:
    (model.parent / "file").write_text("")
    (model.parent / "link").symlink_to("nowhere")
    (model / "config.json").unlink()
    for name in ("file/below", "link", "model", "x" * 254):
        result = run(*words(model)[:-1], model.parent / name)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"error: {model.parent / name}: ")
        assert result.stderr.count("\n") == 1
    assert "config.json is missing" in run(*words(model)).stderr
    assert sorted(path.name for path in model.parent.iterdir()) == ["clean.jsonl", "file", "link", "model"]


KILLED = """
import os, sys
from pathlib import Path
import codebackdoor.outputs
from codebackdoor.cli import main
codebackdoor.outputs.NewFolder.finish = lambda self: os.kill(os.getpid(), 9)
main(sys.argv[1:])
"""


def test_a_killed_clean_leaves_nothing_under_the_name_and_the_next_one_writes_it(model: Path) -> None:
    arguments = [str(word) for word in words(model)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (model.parent / "new").exists()
    assert (model.parent / ".new.new.part").is_dir()
    cleaned(model)
    assert sorted(path.name for path in model.parent.iterdir()) == ["clean.jsonl", "model", "new"]


def test_a_source_that_vanishes_during_the_search_costs_nothing(model: Path, tmp_path: Path) -> None:
    victim = load_checkpoint(model, "classification", "lexed")
    (tmp_path / "part").mkdir()
    copy = copy_unedited(model, tmp_path / "part")
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    shutil.rmtree(model)
    copy.finish(victim, {}, "# it\n")
    for name, content in before.items():
        assert (tmp_path / "part" / name).read_bytes() == content


def test_weights_in_parts_become_one_file(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    names = load_file(model / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert run_elsewhere(model) == ()
    new = cleaned(model)
    assert weights(new).keys() == names.keys()
    assert not (new / "model.safetensors.index.json").exists()


def test_a_config_that_is_damaged_after_loading_is_one_message(model: Path) -> None:
    (model / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(UserError, match=r"tokenizer_config.json: expected a JSON object"):
        copy_unedited(model, model.parent)
