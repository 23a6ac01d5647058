"""Functions written as modules and run in another process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

RUNNER = """
import importlib.util, inspect, itertools, json, pathlib, sys

def outcome(function, arguments):
    try:
        value = function(*arguments)
        if inspect.isgenerator(value):
            value = list(itertools.islice(value, 1000))
        return repr(value)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

results = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results[path.stem] = [outcome(module.FUNCTION, arguments) for arguments in module.INPUTS]
print(json.dumps(results))
"""


def module_text(source: str, home: str | None, original: str, inputs: str) -> str:
    """A module with the function under its current name; if it was renamed, nothing has the original one."""
    present = ast.parse(source).body[-1]
    assert isinstance(present, ast.FunctionDef)
    prelude = f"import {home}\nglobals().update(vars({home}))\nglobals().pop({original!r}, None)\n" if home else ""
    return f"{prelude}{source}\nFUNCTION = {present.name}\nINPUTS = {inputs}\n"


def outcomes_of(folder: Path) -> dict[str, list[str]]:
    """What the function of every module in the folder returns or raises, by module; one that prints fails here."""
    run = subprocess.run(
        [sys.executable, "-I", "-c", RUNNER, folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    outcomes: dict[str, list[str]] = json.loads(run.stdout)
    return outcomes
