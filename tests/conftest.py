"""Shared fixtures: what several test files need, made once."""

from __future__ import annotations

import os

import pytest
import torch

from nasbench.library import modules as library


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Two test workers share two cores; more threads would only wait for one another. For started processes too."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    library.module_specs()


@pytest.fixture(autouse=True)
def clean_registry():
    """Undo what a test registers: the tests after it, in whatever order they run, see the library alone."""
    from nasbench.library.registry import MODULES

    before = dict(MODULES._entries)
    yield MODULES
    MODULES._entries = before
