"""Models run where the caller was allotted: a job without an accelerator stays on the processor."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from click.testing import CliRunner

from codebackdoor.cli import main
from codebackdoor.victims import devices


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    devices.allot(None)


@pytest.mark.parametrize(("allotted", "kind"), [(None, "cuda"), (1, "cuda"), (0, "cpu")])
def test_an_accelerator_is_used_by_those_who_may(
    allotted: int | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    devices.allot(allotted)
    assert devices.device().type == kind


def test_an_allotted_accelerator_that_is_not_there_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for allotted, warnings in ((None, 0), (0, 0), (1, 1)):
        devices.allot(allotted)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert devices.device().type == "cpu"
        assert len(caplog.records) == warnings


@pytest.mark.parametrize("command", ["train", "eliminate", "calibrate", "purify", "rewrite", "predict"])
def test_every_command_that_runs_a_model_takes_its_allotment(command: str) -> None:
    assert "--gpus" in CliRunner().invoke(main, [command, "--help"]).output
    CliRunner().invoke(main, [command, "--gpus", "0"])
    assert devices._allotted == 0


def test_numbers_that_a_processor_is_slow_at_count_as_zero() -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no such switch")
    least = torch.tensor(1e-38)
    assert (least / 10).item() > 0
    devices.device()
    assert (least / 10).item() == 0
