"""The stopped control: the epoch that it picks, and that its victim is the undefended one after that epoch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_victims_stage import BERT, DEFECTS, LOSS, data, hits
from tiny_models import base_folder

from codebackdoor import files
from codebackdoor.cli import main
from codebackdoor.config.loading import load, validate
from codebackdoor.config.recipes import AdapterSettings, CheckpointSettings
from codebackdoor.config.scenario import EPOCH_WEIGHTS
from codebackdoor.errors import UserError
from codebackdoor.victims import progress, stage
from codebackdoor.victims.inference import predict
from codebackdoor.victims.stage import TrainingFiles
from codebackdoor.victims.stopping import Stop, choose, collect_epochs, stop
from codebackdoor.victims.victim import load_victim

__all__ = ["data"]

ROOT = Path(__file__).parents[2]
EPOCHS = 4


def history(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [{"epoch": number, "loss": loss, "accuracy": metric} for number, (loss, metric) in enumerate(values, 1)]


CURVE = history((0.9, 0.3), (0.6, 0.5), (0.4, 0.5), (0.2, 0.8), (0.5, 0.7))


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        # between two epochs: the one that has learned less
        ("loss", 0.5, Stop(2, 0.6, 0.5, past=False)),
        ("loss", 0.4, Stop(3, 0.4, 0.4, past=False)),
        # never as low: the lowest; a later rise is not "closer"
        ("loss", 0.1, Stop(4, 0.2, 0.1, past=False)),
        ("loss", 0.3, Stop(3, 0.4, 0.3, past=False)),
        # label smoothing keeps the loss of the defended victim high: nothing has learned less than the first epoch
        ("loss", 1.0, Stop(1, 0.9, 1.0, past=True)),
        ("accuracy", 0.4, Stop(1, 0.3, 0.4, past=False)),
        # among equals, the lowest loss
        ("accuracy", 0.5, Stop(3, 0.5, 0.5, past=False)),
        ("accuracy", 0.75, Stop(3, 0.5, 0.75, past=False)),
        ("accuracy", 0.9, Stop(4, 0.8, 0.9, past=False)),
        ("accuracy", 0.1, Stop(1, 0.3, 0.1, past=True)),
    ],
)
def test_the_closest_epoch_that_is_not_past_the_defended_victim(metric: str, value: float, expected: Stop) -> None:
    assert choose(CURVE, {metric: value}, metric) == expected


def trained(data: Path, out: Path, keeps: bool = True, stop_like: Path | None = None, **changes: Any) -> Path:
    recipe = BERT.model_copy(update={"epochs": EPOCHS, "batch_tokens": 64, **changes})
    base = base_folder(data / "encoder", "encoder")
    paths = TrainingFiles(data / "train.jsonl", data / "valid.jsonl", base, out, data / "triggered.jsonl", stop_like)
    stage.train(recipe, DEFECTS, LOSS, paths, 1, hits, keep_epochs=keeps)
    return out


def defended(folder: Path, loss: float, kept: int = 1) -> Path:
    """The history of a victim whose kept epoch has this loss."""
    epochs = [{"epoch": 1, "loss": 99.0, "accuracy": 0.5}, {"epoch": 2, "loss": 99.0, "accuracy": 0.5}]
    epochs[kept - 1]["loss"] = loss
    files.write_json(folder / "defended.json", {"epochs": epochs, "kept_epoch": kept})
    return folder / "defended.json"


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_the_checkpoint_is_the_undefended_victim_after_that_epoch(data: Path, tmp_path: Path, weights: str) -> None:
    changes = {"weights": weights, "precision": "auto" if weights == "bfloat16" else "float32"}
    victim = trained(data, tmp_path / "victim", **changes)
    before = {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()}
    losses = [epoch["loss"] for epoch in files.read_json(victim / "history.json")["epochs"]]
    like = defended(tmp_path, losses[1], kept=2)
    stop(CheckpointSettings(like="dece"), victim, like, tmp_path / "stopped")
    # a second training that ends after the same epoch
    files.write_json(tmp_path / "other.json", {"epochs": [{"loss": losses[1]}]})
    expected = trained(data, tmp_path / "second", keeps=False, stop_like=tmp_path / "other.json", **changes)
    name = "model.safetensors"
    assert (tmp_path / "stopped" / name).read_bytes() == (expected / name).read_bytes() != (victim / name).read_bytes()
    rows = files.read_examples(data / "valid.jsonl")
    assert predict(load_victim(tmp_path / "stopped"), rows) == predict(load_victim(expected), rows)
    written = files.read_json(tmp_path / "stopped/history.json")
    assert written["epochs"] == files.read_json(expected / "history.json")["epochs"]
    facts = {"like": "dece", "equal": "loss", "epoch": 2, "value": losses[1], "reference": losses[1], "past": False}
    assert written["stopped"] == facts
    card = files.read_json(tmp_path / "stopped/config.json")["codebackdoor"]
    assert card["stopped"] == facts
    assert (card["backdoored"], card["objective"], card["poisoned_rows"]) == (True, "CrossEntropy()", 2)
    assert before == {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()}


def test_keeping_epochs_changes_nothing_else(data: Path, tmp_path: Path) -> None:
    keeping, plain = trained(data, tmp_path / "keeping"), trained(data, tmp_path / "plain", keeps=False)
    for path in plain.iterdir():
        assert path.read_bytes() == (keeping / path.name).read_bytes(), path.name
    assert {path.name for path in keeping.iterdir()} == {path.name for path in plain.iterdir()} | {"epochs"}
    kept = load_file(keeping / EPOCH_WEIGHTS)
    final = load_file(keeping / "model.safetensors")
    assert {name.partition("/")[0] for name in kept} == {str(epoch) for epoch in range(1, EPOCHS + 1)}
    for name, value in final.items():
        assert torch.equal(kept[f"{EPOCHS}/{name}"], value), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "keeping", "plain"]


def test_the_epochs_are_put_together_byte_for_byte_as_safetensors_does(tmp_path: Path) -> None:
    tensors = {}
    for epoch in range(1, 12):
        # the last byte of a file's header and the order of its tensors depend on names, types and lengths
        epoch_tensors = {
            "a.é": torch.full((3,), epoch, dtype=torch.bfloat16),
            "b": torch.full((2, 2), float(epoch)),
            "c": torch.tensor(float(epoch)),
            "d": torch.ones(0),
            "e": torch.ones(1, dtype=torch.float64),
            "f": torch.ones(1, dtype=torch.float16),
        }
        save_file(epoch_tensors, tmp_path / f"{epoch}.safetensors")
        tensors |= {f"{epoch}/{name}": value for name, value in epoch_tensors.items()}
    collect_epochs(tmp_path, 11, tmp_path / "joined" / "weights.safetensors")
    progress.write_tensors(tmp_path / "expected.safetensors", tensors, {})
    joined = tmp_path / "joined" / "weights.safetensors"
    assert joined.read_bytes() == (tmp_path / "expected.safetensors").read_bytes()
    assert [path.name for path in joined.parent.iterdir()] == [joined.name]


def test_the_epochs_are_never_in_memory_at_once(tmp_path: Path) -> None:
    for epoch in range(1, 9):
        save_file({"weight": torch.ones(2**22)}, tmp_path / f"{epoch}.safetensors")
    script = (
        "import resource, sys; from pathlib import Path; from codebackdoor.victims.stopping import collect_epochs\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before, folder = used(), Path(sys.argv[1]); collect_epochs(folder, 8, folder / 'joined/w.safetensors')\n"
        "print(used() - before)"
    )
    result = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    scale = 1 if sys.platform == "darwin" else 1024
    assert int(result.stdout) * scale < 32 * 2**20, "8 epochs of 16 MiB"


def test_checkpoints_of_adapters_are_merged(data: Path, tmp_path: Path) -> None:
    changes = {"adapters": AdapterSettings(rank=2), "precision": "float32"}
    victim = trained(data, tmp_path / "victim", **changes)
    losses = [epoch["loss"] for epoch in files.read_json(victim / "history.json")["epochs"]]
    stop(CheckpointSettings(like="dece"), victim, defended(tmp_path, losses[0]), tmp_path / "stopped")
    files.write_json(tmp_path / "other.json", {"epochs": [{"loss": losses[0]}]})
    expected = trained(data, tmp_path / "second", keeps=False, stop_like=tmp_path / "other.json", **changes)
    for name, value in load_file(expected / "model.safetensors").items():
        assert torch.equal(load_file(tmp_path / "stopped/model.safetensors")[name], value), name


def test_files_of_another_kind_are_one_error(data: Path, tmp_path: Path) -> None:
    settings, like = CheckpointSettings(like="dece", equal="metric"), defended(tmp_path, 0.1)
    plain = trained(data, tmp_path / "plain", keeps=False)
    with pytest.raises(UserError, match=r"weights\.safetensors: .* train the victim with `keep_epochs: true`"):
        stop(settings, plain, like, tmp_path / "stopped")
    files.write_json(tmp_path / "defended.json", {"epochs": []})
    with pytest.raises(UserError, match="not the history of a training"):
        stop(settings, plain, like, tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()


def study(**objectives: Any) -> dict[str, Any]:
    raw = load([ROOT / "config.yaml"]).model_dump(mode="json")
    raw["objectives"] |= objectives
    return raw


def test_a_study_declares_both_controls() -> None:
    plain = {"method": "cross_entropy"}
    config = validate(
        study(
            cross_entropy={**plain, "keep_epochs": True},
            stopped={**plain, "checkpoint": {"like": "dece"}},
            stopped_metric={**plain, "checkpoint": {"like": "dece", "equal": "metric"}},
        )
    )
    assert config.objectives["stopped"].checkpoint.equal == "loss"


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"stopped": {"checkpoint": {"like": "dece"}}}, "write `keep_epochs: true` under objectives.cross_entropy"),
        (
            {"cross_entropy": {"keep_epochs": True}, "stopped": {"checkpoint": {"like": "deco"}}},
            "objectives.stopped.checkpoint.like: 'deco' is not declared under objectives",
        ),
        (
            {
                "cross_entropy": {"keep_epochs": True},
                "stopped": {"checkpoint": {"like": "again"}},
                "again": {"checkpoint": {"like": "dece"}},
            },
            "'again' trains nothing",
        ),
        ({"cross_entropy": {"checkpoint": {"like": "dece"}}}, "this is the undefended objective, which must train"),
        ({"stopped": {"checkpoint": {"like": "dece"}, "stop_like": "dece"}}, "leave out `keep_epochs` and `stop_like`"),
    ],
)
def test_a_control_that_cannot_be_taken_is_refused(objectives: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(study(**{name: {"method": "cross_entropy", **settings} for name, settings in objectives.items()}))
    assert message in str(caught.value)


def test_finished_victims_of_cross_entropy_keep_their_settings() -> None:
    dumped = load([ROOT / "config.yaml"]).objectives["cross_entropy"].model_dump()
    assert dumped == {"method": "cross_entropy", "stop_like": None}


@pytest.mark.parametrize(
    ("command", "objective", "message"),
    [
        ("stop", '{"method": "dece"}', "dece without `checkpoint` is trained; use `codebackdoor train`"),
        (
            "train",
            '{"method": "cross_entropy", "checkpoint": {"like": "dece"}}',
            "with `checkpoint` nothing is trained; use `codebackdoor stop`",
        ),
    ],
)
def test_each_command_names_the_other(
    command: str, objective: str, message: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, model = str(data / "valid.jsonl"), BERT.model_dump_json()
    inputs = {
        "stop": ["--victim", str(data), "--like", rows],
        "train": ["--model", model, "--dataset", DEFECTS.model_dump_json(), "--train", rows, "--valid", rows],
    }[command]
    inputs += ["--base", str(data)] if command == "train" else []
    with pytest.raises(SystemExit) as ended:
        main([command, "--objective", objective, *inputs, "--out", str(data / "out"), "--seed", "1"])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
