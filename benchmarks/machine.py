"""Where and with what a measurement was made: nothing that tells one owner's machine from another's."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("numpy", "torch", "jax", "scipy", "scikit-learn", "optax", "entmax")


def git(*arguments: str) -> bytes:
    """What git prints for this checkout."""
    program = shutil.which("git")
    assert program is not None, "git is needed to name the revision"
    return subprocess.run([program, "-C", ROOT, *arguments], stdout=subprocess.PIPE, check=True).stdout  # noqa: S603 - ours


def processor() -> str:
    """The processor's model as Linux names it; elsewhere what Python knows."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        model = re.search(r"^model name\s*:\s*(.+)$", information.read_text(encoding="utf-8"), re.MULTILINE)
        if model:
            return model[1]
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str:
    """The revision, and whether src differs from it."""
    changed = " with changes" if git("status", "--porcelain", "--", "src").strip() else ""
    return git("rev-parse", "--short=10", "HEAD").decode().strip() + changed


def description() -> dict[str, str]:
    """Head of the report."""
    return {
        "processor": processor(),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{n} {version(n)}" for n in LIBRARIES)]),
        "softxent": f"{version('softxent')}, commit {commit()}",
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
    }
