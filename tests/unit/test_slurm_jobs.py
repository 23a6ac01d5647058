"""Jobs of a folder as squeue lists them; a machine with SLURM's programs but no cluster has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from codebackdoor.errors import UserError
from codebackdoor.runs import slurm_jobs


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of this name, to be written."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    program = folder / "squeue"
    program.touch(mode=0o755)
    return program


def test_only_jobs_that_snakemake_submitted_from_the_folder_are_listed(squeue: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (tmp_path / "link").symlink_to(study)
    rows = (
        f"1|RUNNING|{study}|rule_train_wildcards_a|b",
        f"2|PENDING|{tmp_path / 'link'}|rule_mine",
        f"3|RUNNING|{study}|(null)",
        "4|RUNNING|/elsewhere|rule_train",
    )
    squeue.write_text("#!/bin/sh\ncat <<'EOF'\n" + "\n".join(rows) + "\nEOF\n")
    submitted = slurm_jobs.jobs(study)
    assert [(job.id, job.state, job.comment) for job in submitted] == [
        ("1", "RUNNING", "rule_train_wildcards_a|b"),
        ("2", "PENDING", "rule_mine"),
    ]


def test_a_cluster_that_does_not_answer_is_an_error_where_jobs_were_submitted(squeue: Path, tmp_path: Path) -> None:
    squeue.write_text("#!/bin/sh\necho 'no configuration source' >&2\nexit 1\n")
    assert slurm_jobs.jobs(tmp_path) == []
    (tmp_path / slurm_jobs.SUBMITTED).mkdir(parents=True)
    with pytest.raises(UserError, match="squeue failed: no configuration source"):
        slurm_jobs.jobs(tmp_path)
