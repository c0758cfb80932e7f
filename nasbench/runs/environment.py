"""The environment of a run, which is written to environment.json: versions, devices, git commit, seeds."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from typing import Any

import torch

from nasbench import __version__
from nasbench.runs.refinement import most_seeds
from nasbench.runs.settings import SearchSettings
from nasbench.text import mask_passwords

__all__ = ["describe_environment", "package_versions"]

_PACKAGES = ("torch", "torchvision", "timm", "optuna", "fvcore", "numpy", "pandas", "moocore", "scikit-learn")


def describe_environment(settings: SearchSettings) -> dict[str, Any]:
    """Return the environment of a search as JSON-serialisable data.

    It contains no paths and no user names of the machine.
    """
    return {
        "nasbench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "device": _device(),
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "git": _git(),
        "command": _command(),
        "seeds": {"search": settings.seed, "most": most_seeds(settings)},
    }


def _command() -> str:
    """Return the command that the user typed, without passwords. "" if a Python program started the search."""
    if os.path.basename(sys.argv[0]) != "nasbench":
        return ""
    return " ".join(["nasbench", *map(mask_passwords, sys.argv[1:])])


def package_versions() -> dict[str, str | None]:
    """Return the versions of the packages on which results depend. None for a package that is not installed."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    device: dict[str, Any] = {"cpu": platform.processor() or platform.machine()}
    if torch.cuda.is_available():
        device["cuda"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        device["cuda_version"] = torch.version.cuda
    return device


def _git() -> str | None:
    """Return the git commit of the working directory, with "+dirty" after changes. None outside a repository."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+dirty" if status.stdout.strip() else "")
