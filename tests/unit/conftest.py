"""Fixtures of several test files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import planted
import pytest
import torch
from click.testing import CliRunner

from codebackdoor.cli import main
from codebackdoor.files import write_examples


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch with one thread, so that sums are the same on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints from elsewhere: one with the backdoor, six without; clean samples; a calibration made of five."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, seed in (("backdoored", 1), *((f"benign{seed}", seed) for seed in range(11, 17))):
        victim = planted.victim(seed, planted=name == "backdoored")
        victim.model.save_pretrained(folder / name)
        victim.tokenizer.save_pretrained(folder / name)
    write_examples(folder / "clean.jsonl", planted.make_view().clean)
    arguments = ["scan", folder / "backdoored", "--clean", folder / "clean.jsonl", "--text-form", "lexed"]
    for seed in range(12, 17):
        arguments += ["--benign", folder / f"benign{seed}"]
    arguments += [
        "--settings",
        json.dumps(planted.SETTINGS),
        "--write-calibration",
        folder / "calibration.json",
        "--json",
    ]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.output
    (folder / "scan.json").write_text(result.stdout)
    return folder
