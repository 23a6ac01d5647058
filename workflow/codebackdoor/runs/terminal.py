"""The terminal output of a run: one line per finished job, the remaining time, and the logs of failed jobs.

``Terminal`` turns Snakemake's log records into text. Snakemake's own log in ``.snakemake/log`` contains all records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Any

from codebackdoor.errors import printable

#: Weight, in core seconds, of the assumption that this machine is as fast as the one on which jobs were timed.
TRUSTED_SECONDS = 120.0
#: Number of lines shown from the end of a failed job's log.
LOG_LINES = 40
#: Beginnings of messages that are useless to a person who runs a study.
_NOISE = (
    *("Using shell: ", "Conda environments: ", "Singularity containers: ", "Select jobs to execute", "Config file "),
    *("Assuming unrestricted shared filesystem", "Elapsed time: ", "Removing output files of failed job"),
    *("Exiting because a job execution failed", "Shutting down", "WorkflowError:\nAt least one job did not complete"),
)
_QUIET_EVENTS = ("run_info", "resources_info", "workflow_started", "progress", "shellcmd", "job_started", "rulegraph")


@dataclass
class RunProgress:
    """The jobs of a run by Snakemake's job IDs: titles, and estimated core seconds of those that were ever timed."""

    titles: Mapping[int, str] = field(default_factory=dict)
    seconds: Mapping[int, float] = field(default_factory=dict)
    cores: int = 1
    started: float = 0.0
    running: dict[int, float] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)

    def seconds_left(self, now: float) -> float | None:
        """The estimated time of the unfinished jobs at the speed of the finished ones; None without estimates."""
        if not self.seconds:
            return None
        # a running job counts for no more than its estimate, however long it takes
        under_way = {job: min(self.seconds.get(job, 0.0), now - start) for job, start in self.running.items()}
        done = sum(self.seconds.get(job, 0.0) for job in self.finished) + sum(under_way.values())
        speed = (done + TRUSTED_SECONDS) / (now - self.started + TRUSTED_SECONDS / self.cores)
        return (sum(self.seconds.values()) - done) / speed

    def line(self, job: int, now: float) -> str:
        total, done = len(self.titles), len(self.finished)
        times, left = [f"{clock(now - self.started)} elapsed"], self.seconds_left(now)
        if left is not None and done < total:
            untimed = self.titles.keys() - self.seconds.keys() - self.finished
            times.append(f"at least {duration(max(left, 60))} left" if untimed else f"{duration(left)} left")
        return f"[{done}/{total}  {100 * done // total}%  {', '.join(times)}] {self.titles[job]}"


class Terminal:
    """Turns log records into text, in the order in which they come."""

    def __init__(self, show_failed_logs: bool = True) -> None:
        self.show_failed_logs = show_failed_logs
        self.run: RunProgress | None = None
        self.failed: dict[int, Sequence[str]] = {}
        self.now = 0.0
        self.last_message = ""

    def text(self, record: LogRecord) -> str | None:
        """The text of a record; None if there is nothing to print."""
        self.now = record.created
        event = str(getattr(record, "event", None) or "message")
        if event in _QUIET_EVENTS:
            return None
        method = getattr(self, f"_{event}", None)
        text: str | None = method(record) if method else self._message(record)
        return None if text is None else printable(text)

    def closing(self) -> str | None:
        """A summary of how the run ended; None if there were no jobs, or if it was already printed."""
        run, self.run = self.run, None
        if run is None:
            return None
        done, total, time = len(run.finished), len(run.titles), clock(self.now - run.started)
        if self.failed:
            left = total - done - len(self.failed)
            waiting = f", and {left} more were stopped or need their output" if left else ""
            failed = [f"  {run.titles.get(job, job)}: {', '.join(logs)}" for job, logs in self.failed.items()]
            return "\n".join(
                [
                    f"{len(failed)} of {total} jobs failed{waiting}. The {done} that finished are kept. Failed:",
                    *map(printable, failed),
                ]
            )
        if done < total:
            return f"Stopped after {time}: {done} of {total} jobs are finished and kept. The same command continues."
        return f"All {total} jobs finished in {time}."

    def _message(self, record: LogRecord) -> str | None:
        text = str(record.msg or "")
        plan: Mapping[str, Any] | None = getattr(record, "run", None)
        if plan is not None:
            self.run = RunProgress(**plan, started=record.created)
        if text.startswith("Building DAG of jobs"):
            return "Checking which results exist and are up to date ..."
        if text.startswith("Terminating processes on user request"):
            return "Stopping the running jobs ..."
        # the path of Snakemake's own log
        quiet = text.startswith("Complete log(s)") and not self.failed
        # while jobs are ending, Snakemake repeats that it waits for the others
        quiet |= text in ("", "None", self.last_message) or text.startswith(_NOISE)
        self.last_message = text
        return None if quiet else text

    def _error(self, record: LogRecord) -> str | None:
        # the job's log explains the failure better
        return None if "returned non-zero exit status" in str(record.msg) else self._message(record)

    def _job_info(self, record: Any) -> None:
        if self.run is not None:
            self.run.running[record.jobid] = record.created

    def _job_finished(self, record: Any) -> str | None:
        job = record.job_id
        self.failed.pop(job, None)
        if self.run is None:
            return str(record.msg)
        # the final target has no title, since it is not a real job
        if job not in self.run.titles:
            return None
        self.run.running.pop(job, None)
        self.run.finished.add(job)
        return self.run.line(job, record.created)

    def _job_error(self, record: Any) -> str:
        job, logs = record.jobid, list(record.log)
        self.failed[job] = logs
        title = record.rule_name
        if self.run is not None:
            self.run.running.pop(job, None)
            title = self.run.titles.get(job, title)
        facts = [str(record.rule_msg)] if record.rule_msg else []
        facts += [f"{name}: {value}" for name, value in record.aux.items()]
        return "\n".join([f"FAILED: {title}", *(f"  {fact}" for fact in facts), *self._logs(logs)])

    def _logs(self, logs: Sequence[str]) -> list[str]:
        """The end of each log, indented, below its path."""
        lines: list[str] = []
        for log in logs:
            lines.append(f"  {log}")
            if self.show_failed_logs and Path(log).is_file():
                text = Path(log).read_text(encoding="utf-8", errors="replace").splitlines()
                lines += [f"    ({len(text) - LOG_LINES} lines before)"] * (len(text) > LOG_LINES)
                lines += [f"    {line}" for line in text[-LOG_LINES:]]
        return lines


def clock(seconds: float) -> str:
    """A time as ``2:10``, or as ``1:02:10`` from one hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """A rough time: ``less than 1 min``, ``6 min``, ``2 h 10 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than 1 min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
