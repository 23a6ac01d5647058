"""What a run writes to the terminal, from Snakemake's records, and from Snakemake itself through the logger plugin."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codebackdoor.runs.terminal import Terminal, clock, duration

ROOT = Path(__file__).parents[2]
#: Three jobs: one that succeeds, one that fails or takes long, and one that waits for it.
SNAKEFILE = """
onstart:
    jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_norun]
    titles = {job.jobid: f"make {job.rule.name}" for job in jobs}
    logger.info("Three jobs.", extra={"run": {"titles": titles, "seconds": dict.fromkeys(titles, 60.0), "cores": 1}})
rule all:
    input: "good", "after"
rule good:
    output: "good"
    priority: 9
    shell: "touch {output}"
rule other:
    output: "other"
    log: "other.log"
    shell: "(echo begins; COMMAND) > {log} 2>&1"
rule after:
    input: "other"
    output: "after"
    shell: "touch {output}"
"""


def record(created: float, event: str | None = None, msg: str | None = None, **facts: Any) -> logging.LogRecord:
    log_record = logging.LogRecord("snakemake", logging.INFO, "", 0, msg, None, None)
    log_record.__dict__ |= {"created": created, **facts} | ({"event": event} if event else {})
    return log_record


@pytest.fixture
def terminal() -> Terminal:
    """A run of four jobs of 600 core seconds on two cores, that began at 1000."""
    plan = {"titles": {1: "train", 2: "purify", 3: "predict", 4: "score"}, "seconds": {1: 600.0, 2: 600.0, 3: 600.0}}
    terminal = Terminal()
    terminal.text(record(1000, msg="To do.", run={**plan, "seconds": plan["seconds"] | {4: 600.0}, "cores": 2}))
    return terminal


def finish(terminal: Terminal, job: int, at: float) -> str | None:
    return terminal.text(record(at, "job_finished", "Finished jobid", job_id=job))


def test_a_finished_job_is_a_line_with_counts_and_times(terminal: Terminal) -> None:
    assert terminal.text(record(1000, "job_info", jobid=1)) is None
    # 600 core seconds are done in 300, and 120 more are taken to be done at once in 60: 1800 more take 900
    assert finish(terminal, 1, 1300) == "[1/4  25%  5:00 elapsed, 15 min left] train"
    # the next took a second: 1200 at (1200 + 120) / (301 + 60) a second
    line = finish(terminal, 2, 1301)
    assert line is not None
    assert "5 min left" in line
    finish(terminal, 3, 1302)
    assert finish(terminal, 4, 2000) == "[4/4  100%  16:40 elapsed] score"
    assert terminal.closing() == "All 4 jobs finished in 16:40."
    assert terminal.closing() is None


def test_a_running_job_counts_up_to_its_price(terminal: Terminal) -> None:
    assert terminal.run is not None
    terminal.text(record(1000, "job_info", jobid=1))
    slow = terminal.run.seconds_left(1300)
    terminal.text(record(1000, "job_info", jobid=2))
    assert slow is not None
    assert terminal.run.seconds_left(1300) == pytest.approx(1800 / (720 / 360))
    assert slow > 1800 / (720 / 360)
    assert terminal.run.seconds_left(5000) == pytest.approx(1200 / (1320 / 4060))


def test_without_prices_no_time_is_promised_and_with_some_it_is_a_bound() -> None:
    terminal = Terminal()
    terminal.text(record(0, msg="To do.", run={"titles": {1: "train", 2: "score"}, "seconds": {}, "cores": 1}))
    assert finish(terminal, 1, 10) == "[1/2  50%  0:10 elapsed] train"
    terminal.text(record(0, msg="To do.", run={"titles": {1: "a", 2: "b", 3: "c"}, "seconds": {1: 60.0, 2: 60.0}}))
    assert finish(terminal, 1, 60) == "[1/3  33%  1:00 elapsed, at least 1 min left] a"
    # a job without a price is left: nobody knows that it takes less
    assert finish(terminal, 2, 100) == "[2/3  66%  1:40 elapsed, at least 1 min left] b"


def test_what_snakemake_says_to_itself_is_left_out(terminal: Terminal) -> None:
    for text in ("Using shell: /bin/bash", "Select jobs to execute...", "Conda environments: ignored", "", "None"):
        assert terminal.text(record(1, msg=text)) is None
    for event in ("progress", "run_info", "resources_info", "job_started", "shellcmd"):
        assert terminal.text(record(1, event, "text")) is None
    for text in ("Nothing to be done (all requested files are present and up to date).", "Job 7 has been submitted"):
        assert terminal.text(record(1, msg=text)) == text
        assert terminal.text(record(1, msg=text)) is None
    assert (
        terminal.text(record(1, "error", "WorkflowError:\nout: no such folder"))
        == "WorkflowError:\nout: no such folder"
    )


def test_a_failed_job_is_named_with_the_end_of_its_log(terminal: Terminal, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)) + "error: \x1b[2Jno rows\n")
    facts = {"jobid": 1, "rule_name": "train", "rule_msg": None, "log": [str(log)], "aux": {"external_jobid": 77}}
    text = terminal.text(record(1001, "job_error", **facts))
    assert text is not None
    lines = text.splitlines()
    assert lines[:3] == ["FAILED: train", "  external_jobid: 77", f"  {log}"]
    assert lines[-1] == "    error: \\x1b[2Jno rows"
    assert "line 61" in lines[4]
    closing = terminal.closing()
    assert closing is not None
    assert closing.startswith("1 of 4 jobs failed, and 3 more were stopped")
    assert closing.endswith(f"  train: {log}")


def test_a_job_that_succeeds_when_tried_again_has_not_failed(terminal: Terminal) -> None:
    terminal.text(record(1001, "job_error", jobid=1, rule_name="train", rule_msg="TIMEOUT", log=[], aux={}))
    for job in (1, 2, 3, 4):
        finish(terminal, job, 1100)
    assert terminal.closing() == "All 4 jobs finished in 1:40."


def test_times_are_as_people_write_them() -> None:
    assert [clock(seconds) for seconds in (5, 130, 3730)] == ["0:05", "2:10", "1:02:10"]
    assert [duration(seconds) for seconds in (20, 340, 7800)] == ["less than 1 min", "6 min", "2 h 10 min"]


def started(folder: Path, command: str) -> subprocess.Popen[str]:
    (folder / "Snakefile").write_text(SNAKEFILE.replace("COMMAND", command))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "TERM": "dumb"}
    run = [str(Path(sys.executable).parent / "snakemake"), "--profile", str(ROOT / "profiles/default"), "--cores", "1"]
    return subprocess.Popen(run, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_snakemake_writes_through_the_plugin(tmp_path: Path) -> None:
    run = started(tmp_path, "echo no row is left; exit 2")
    output, errors = run.communicate(timeout=300)
    assert run.returncode == 1
    assert output == ""
    assert "\r" not in errors
    assert "\x1b" not in errors
    lines = errors.splitlines()
    assert "Three jobs." in lines
    (good,) = (line for line in lines if line.endswith("] make good"))
    assert good.startswith("[1/3  33%  0:0")
    start = lines.index("FAILED: make other")
    assert lines[start + 1 : start + 4] == ["  other.log", "    begins", "    no row is left"]
    assert lines[-2].startswith("1 of 3 jobs failed, and 1 more were stopped")
    assert lines[-1] == "  make other: other.log"


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    run = started(tmp_path, "sleep 60")
    deadline = time.monotonic() + 120
    while not (tmp_path / "other.log").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    os.kill(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=120)
    assert run.returncode != 0
    assert errors.splitlines()[-1].startswith("Stopped after ")
    assert errors.endswith(": 1 of 3 jobs are finished and kept. The same command continues.\n")
