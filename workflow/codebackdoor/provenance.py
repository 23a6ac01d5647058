"""How a result came about: time, memory, device, host, commit, versions.

All that may differ between two runs of the same science stands in ``provenance.json`` and nowhere else; no metric reads
it, only the tables of cost do, and ``compare``, which looks there for what changed a metric.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from codebackdoor.config.hub import hub_id, kept_as
from codebackdoor.files import sha256, write_json

_LIBRARIES = {
    "torch": "torch",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "tree_sitter": "tree-sitter",
    "sklearn": "scikit-learn",
}


@contextmanager
def recorded(out: Path, facts: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """Time the block and, if it ends without an error, write ``out/provenance.json`` with ``facts``.

    The block may add to them. ``seconds`` is wall-clock time, ``peak_mb`` the largest resident set of this process so
    far in MiB.
    """
    started, begun = datetime.now(UTC), time.monotonic()
    found = dict(facts)
    yield found
    record(out, {**found, "started": started.isoformat(timespec="seconds"), "seconds": _since(begun)})


def record(out: Path, facts: Mapping[str, object]) -> None:
    """Write ``out/provenance.json``: ``facts`` beside what is true of this process, machine and source tree."""
    write_json(
        out / "provenance.json",
        {
            **facts,
            "peak_mb": _peak_mb(),
            "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
            "device": _device(),
            "host": platform.node(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": _versions(),
            "commit": commit(),
        },
    )


def identity(path: Path) -> str:
    """What tells a file, or a model's folder, from another wherever it lies: a commit of the hub, or a SHA-256.

    Of a folder it is that of its ``SHA256SUMS``; where there is nothing of the kind, the path.
    """
    hub = hub_id(str(path)) or kept_as(str(path))
    content = path / "SHA256SUMS" if path.is_dir() else path
    return str(hub or (sha256(content) if content.is_file() else path))


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 2)


def _peak_mb() -> float:
    # macOS counts bytes, Linux KiB
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _device() -> dict[str, object]:
    """The accelerator if this process has used one, with its peak memory in MiB; else the processor."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peak = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        return {"name": torch.cuda.get_device_name(), "peak_mb": peak}
    return {"name": platform.processor() or platform.machine()}


def _versions() -> dict[str, str]:
    """Versions of the libraries that this process has imported."""
    found = {}
    for module, distribution in _LIBRARIES.items():
        if module in sys.modules:
            try:
                found[distribution] = version(distribution)
            except PackageNotFoundError:
                continue
    return found


def commit() -> str | None:
    """The commit of the source tree, with ``+`` where files differ from it; None outside a git checkout."""
    here = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(here)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+" if changed else head
