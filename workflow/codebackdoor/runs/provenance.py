"""How a result was made: time, memory, device, host, commit, versions.

Only ``provenance.json`` contains values that may differ between two runs of the same study. No metric depends on it; it
is read by the tables of costs and by ``compare``, which looks there for the cause of a changed metric.
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

from codebackdoor.config.hub import hub_id, mirrored_hub_id
from codebackdoor.files import CHECKSUMS, sha256, write_json

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

    The block may add facts. ``seconds`` is wall-clock time, ``peak_mb`` the peak resident set size of this process in
    MiB.
    """
    started, start = datetime.now(UTC), time.monotonic()
    all_facts = dict(facts)
    yield all_facts
    seconds = round(time.monotonic() - start, 2)
    record(out, {**all_facts, "started": started.isoformat(timespec="seconds"), "seconds": seconds})


def record(out: Path, facts: Mapping[str, object]) -> None:
    """Write ``out/provenance.json``: ``facts`` and those about this process, machine and source tree."""
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
    """Identify a file or a model folder regardless of its path: by its hub commit or by a SHA-256.

    For a folder it is the SHA-256 of its ``SHA256SUMS``. Without either, the path identifies it.
    """
    hub = hub_id(str(path)) or mirrored_hub_id(str(path))
    content = path / CHECKSUMS if path.is_dir() else path
    return str(hub or (sha256(content) if content.is_file() else path))


def _peak_mb() -> float:
    # macOS counts bytes, Linux KiB
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _device() -> dict[str, object]:
    """The accelerator, with its peak memory in MiB, if this process used one; otherwise the processor."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peak = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        return {"name": torch.cuda.get_device_name(), "peak_mb": peak}
    return {"name": _processor()}


def _processor() -> str:
    """The model of the processor; on Linux, Python's own function returns nothing or the architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _versions() -> dict[str, str]:
    """Versions of the libraries that this process has imported."""
    versions = {}
    for module, distribution in _LIBRARIES.items():
        if module in sys.modules:
            try:
                versions[distribution] = version(distribution)
            except PackageNotFoundError:
                continue
    return versions


def commit() -> str | None:
    """Return the commit of the source tree, with ``+`` if files differ from it; None outside a git checkout."""
    source = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(source)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+" if changed else head
