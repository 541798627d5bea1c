"""The peers' environments, made with pip below `.bench/`; each is made once and kept.

sentence-transformers' openvino backend and optimum-intel hold transformers below 5, so they live in an
environment of their own; question-answering is measured there too, because transformers 5.3 removed it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / ".bench"
NEWEST = "newest"
INTEL = "intel"
_PACKAGES = {
    NEWEST: (
        "torch",
        "transformers>=5.23",
        "sentence-transformers>=6.2",
        "datasets>=5.2",
        "ray[data]>=2.60",
        "pillow",
        "psutil",
    ),
    INTEL: (
        "torch",
        "transformers==4.57.6",
        "sentence-transformers==5.7.0",
        "optimum==2.1.0",
        "optimum-intel==1.27.0",
        "openvino>=2026.4",
        "nncf",
        "pyarrow",
        "pillow",
        "psutil",
    ),
}


def make_environment(name: str) -> Path:
    """The Python of a peer's environment, which is made first if need be."""
    folder = ROOT / "environments" / name
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        print(f"making the environment '{name}' in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        packages = [_pin_torch(package) for package in _PACKAGES[name]]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return python


def _pin_torch(package: str) -> str:
    """The very torch that batchneuron runs on, so that nobody wins by a version."""
    from importlib.metadata import version

    return f"torch=={version('torch')}" if package == "torch" else package
