"""A reproducible study of backdoors in neural code models.

    result = codebackdoor.scan("checkpoint", "clean.jsonl")
    result = codebackdoor.clean("checkpoint", "clean.jsonl", out="cleaned")
    result = codebackdoor.sanitize("checkpoint", ["module.py"], clean="clean.jsonl")
    run = codebackdoor.load_run("runs/local")
    loss = codebackdoor.DeCELoss(alpha=0.99)

Rows of the ledger that docstrings refer to (A2, E7, P5, D4) are in docs/fidelity.md: what a paper says, what its code
does, and what is done here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codebackdoor.defenses.objectives.dece.loss import DeCELoss
    from codebackdoor.library.checkpoints import CleanResult, ScanResult, clean, scan
    from codebackdoor.library.runs import Run, load_run
    from codebackdoor.library.sanitizing import InputFinding, SanitizedFile, SanitizeResult, sanitize
    from codebackdoor.library.sources import SourceText
    from codebackdoor.report.metrics import Metric

__version__ = "0.1.0"
__all__ = [
    "CleanResult",
    "DeCELoss",
    "InputFinding",
    "Metric",
    "Run",
    "SanitizeResult",
    "SanitizedFile",
    "ScanResult",
    "SourceText",
    "clean",
    "load_run",
    "sanitize",
    "scan",
]

_MODULES = {
    "defenses.objectives.dece.loss": ("DeCELoss",),
    "library.checkpoints": ("CleanResult", "ScanResult", "clean", "scan"),
    "library.runs": ("Run", "load_run"),
    "library.sanitizing": ("InputFinding", "SanitizeResult", "SanitizedFile", "sanitize"),
    "library.sources": ("SourceText",),
    "report.metrics": ("Metric",),
}


def __getattr__(name: str) -> Any:
    """Import the library on first access, so that jobs of the workflow start without it."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
