"""Shared fixtures: what several test files need, made once."""

from __future__ import annotations

import dataclasses
import gc
import os

import cloudpickle
import numpy as np
import pytest
import torch
from support import postgresql as servers
from support.survival_host import Host

from nasbench.library import modules as library


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Two test workers share two cores; more threads would only wait for one another. For started processes too."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    library.module_specs()
    # What is loaded by now stays until the end. Unfrozen, each collection would search all of it, and where memory
    # runs out the training loop collects every time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # at Python's 700 objects, a twentieth of the time went into collections
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory):
    """The key by which a user's own runs are known is made in a folder of the tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session", autouse=True)
def _no_reports():
    """A search of a test builds no report, because few tests look at it and each takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nasbench.study.search._build_report", lambda run: None)
        yield


@pytest.fixture(autouse=True)
def clean_registry():
    """Undo what a test registers: the tests after it, in whatever order they run, see the library alone."""
    from nasbench.library.registry import MODULES

    before, declared = dict(MODULES._entries), dict(MODULES._declared)
    yield MODULES
    MODULES._entries, MODULES._declared = before, declared


@pytest.fixture(scope="module")
def small_data():
    """Let `digits` have 64 images a split and `co2` 600 weeks, where a search is tested and not how well it learns.

    Worker processes do not see it.
    """
    from nasbench.tasks import _image_sources as images
    from nasbench.tasks import _series as series

    digits, weeks = images.digits(), series.co2().frame[:600]
    order = np.random.default_rng(0).permutation(len(digits.names))
    splits = {name: order[64 * number : 64 * (number + 1)] for number, name in enumerate(("train", "val", "test"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "digits", lambda: dataclasses.replace(digits, given=splits))
        patch.setattr(series, "co2", lambda: series.Series(weeks.copy()))
        yield


@pytest.fixture(scope="module")
def small_scenes():
    """Let `scenes-segment` and `scenes-detect` have 12, 6 and 6 images, as `small_data`."""
    from nasbench.tasks import scenes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "COUNTS", {"train": 12, "val": 6, "test": 6})
        scenes.scenes.cache_clear()
        yield
    scenes.scenes.cache_clear()


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Return the task `folder:PATH` of 60 small images in two classes, for searches in processes of their own."""
    from PIL import Image

    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, mean in (("light", 160), ("dark", 80)):
        (folder / name).mkdir()
        for number in range(30):
            pixels = draw.normal(mean, 40, (8, 8)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return f"folder:{folder}"


@pytest.fixture(scope="session")
def search_host():
    """A process that has imported everything and forks a search at each order, for searches that are to be killed."""
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="module")
def postgresql():
    """A PostgreSQL server that this file's tests have to themselves and may stop."""
    if servers.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    server = servers.Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def functions_by_value(request):
    """Send workers the functions of a test file themselves: they need not import it, and torch with it."""
    cloudpickle.register_pickle_by_value(request.module)
    yield
    cloudpickle.unregister_pickle_by_value(request.module)


@pytest.fixture(scope="module")
def brief_latency():
    """Let no latency measurement take longer than 0.1 s, for tests that do not look at its figures."""
    from nasbench.measurement.latency import profiler

    measure = profiler.measure_runners
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            profiler,
            "measure_runners",
            lambda runners, *, time_s, **more: measure(runners, time_s=min(time_s, 0.1), **more),
        )
        yield
