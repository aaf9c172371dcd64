"""Where and with what code something was measured, and the memory that it took. Ends at plain values."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("accrete", "torch", "transformers", "peft")
_STATUS, _CLEAR, _CPU = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/cpuinfo")


def machine(device: str) -> dict[str, Any]:
    """Where it ran, in words that say what the seconds mean."""
    torch = sys.modules.get("torch")
    return {
        "system": platform.system(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads() if torch else None,
        "device": device,
    }


def source() -> dict[str, Any]:
    """The commit of the code that runs, and the versions of what its figures depend on."""
    return {"commit": commit(), "versions": {name: metadata.version(name) for name in PACKAGES}}


def commit() -> str | None:
    """The commit of the code that runs, marked where files were changed since; None where it is no checkout."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None

    def git(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "src")
        return git("rev-parse", "--short=7", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def utc(seconds: float) -> str:
    """A time since the epoch as it is written down."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def together(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all say alike; what they do not, side by side."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in told for key in one):
        values = [one[key] for one in told if one.get(key) is not None]
        if values and all(isinstance(value, Mapping) for value in values):
            found[key] = together(values)
        else:
            alike = all(value == values[0] for value in values)
            found[key] = next(iter(values), None) if alike else " / ".join(dict.fromkeys(map(str, values)))
    return found


def forget_peak() -> None:
    """Begin to watch anew what `peak_mb` tells, where the system lets us."""
    if (torch := _with_cuda()) is not None:
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")  # Linux: the peak of the resident set is what it is now


def peak_mb() -> float:
    """The most memory this process has had since, in MB: of the accelerator where one is used."""
    if (torch := _with_cuda()) is not None and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    with contextlib.suppress(OSError, StopIteration, ValueError):
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def _with_cuda() -> Any:
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        line = next(line for line in _CPU.read_text().splitlines() if line.startswith("model name"))
        return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
