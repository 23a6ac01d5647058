"""Rendering a chat template. It is a program by its author, so a separate process first tries whether it ends."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import codebackdoor
from codebackdoor.errors import UserError, first_line
from codebackdoor.victims.tokenizer_loading import load_tokenizer

#: Processor time that a template has for the probes, in seconds.
PROBE_SECONDS = 10
#: Contents of the message that are tried: one for loops over anything, one for loops over the text.
_PROBES = ("return it", "return it " * 500)
_PACKAGES = Path(codebackdoor.__file__).resolve().parents[1]
_ENTRY = f"import sys; sys.path.insert(0, sys.argv[1]); from {__name__} import probe; probe()"
#: Exit status of a template that raises an error.
_FAILS = 3


def rendered(tokenizer: Any, content: str) -> str:
    """One message of the user by the tokenizer's template; UserError if that fails."""
    try:
        text: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template raises whatever its author wrote
        raise UserError(f"the paraphraser's chat template fails: {first_line(error)}; use another model") from error
    return text


def check_template(folder: Path) -> None:
    """Raise UserError if the template of a model folder fails for a short or a long text, or does not end in time."""
    command = [sys.executable, "-P", "-c", _ENTRY, str(_PACKAGES), str(folder), str(PROBE_SECONDS)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode == _FAILS:
        raise UserError(result.stdout.strip())
    if result.returncode == -signal.SIGXCPU:
        raise UserError(
            f"{folder}: the paraphraser's chat template takes more than {PROBE_SECONDS} seconds for one message; use "
            "another model"
        )
    if result.returncode:
        reason = (result.stderr.strip() or f"status {result.returncode}").splitlines()[-1]
        raise UserError(f"{folder}: the paraphraser's chat template cannot be tried ({reason}); use another model")


def probe() -> None:
    """Entry of the process: render the probes within the processor time that is given; the system ends it later."""
    tokenizer = load_tokenizer(Path(sys.argv[2]))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + int(sys.argv[3]), hard))
    try:
        for content in _PROBES:
            rendered(tokenizer, content)
    except UserError as error:
        print(error, flush=True)
        os._exit(_FAILS)
