"""Snakemake plugin for ``codebackdoor.runs.terminal``: one line per finished job. Profiles choose it (``logger``).

Snakemake imports every logger plugin whenever it starts, also in the jobs of a cluster: everything else is imported
when the handler is made, which only the Snakemake of a run does.
"""

from __future__ import annotations

import sys
from logging import ERROR, LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase


class LogHandler(LogHandlerBase):
    """Writes a run to the terminal; a dry run looks as it does without this plugin, because `make plan` reads it."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        from snakemake.logging import ColorizingTextHandler, DefaultFormatter

        from codebackdoor.runs.terminal import Terminal

        settings: Any = self.common_settings
        self.terminal = Terminal(settings.show_failed_logs)
        stream = sys.stdout if settings.stdout else sys.stderr
        self.plain = ColorizingTextHandler(settings.nocolor, stream, DefaultFormatter(settings.quiet))

    def emit(self, record: LogRecord) -> None:
        if self.common_settings.dryrun:
            self.plain.emit(record)
        else:
            try:
                self._write(self.terminal.text(record), red=record.levelno >= ERROR)
            except Exception:
                self.handleError(record)

    def close(self) -> None:
        """At the end of the run, whatever its end is."""
        if not self.common_settings.dryrun:
            self._write(self.terminal.closing())
        super().close()

    def _write(self, text: str | None, red: bool = False) -> None:
        if text is not None:
            red &= not self.plain.nocolor
            print(f"\033[31m{text}\033[0m" if red else text, file=sys.stderr, flush=True)
