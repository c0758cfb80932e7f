"""Rows of the atlas made by hand, which pass its check."""

import json
from typing import Any

import pandas as pd

from nasbench.evidence.atlas import COLUMNS, Atlas, Measured, Unmeasured, code_hashes, property_text
from nasbench.evidence.atlas_protocol import PROTOCOL, group_named
from nasbench.library.modules import module_spec

VERSIONS = {
    "nasbench": "0.1.0", "python": "3.11", "torch": "2", "timm": "1", "device": "cpu (x86_64)", "judged": "0",
}  # fmt: skip


def row(module: str = "se", group: str = "digits-test_resnet", **changed: Any) -> dict[str, Any]:
    """Return a row that fits the atlas, with some of its values changed. An undecided difference of +0.01 ± 0.02."""
    of = group_named(group)
    versions = VERSIONS | {"data": of.sha256, "module": code_hashes([module])[module]}
    nan = float("nan")
    return {
        "module": module, "dims": of.dims, "property": property_text(module_spec(module)), "host": of.host,
        "data": of.data, "slots": "same", "seeds": 4, "difference": 0.01, "low": -0.01, "high": 0.03,
        "verdict": "NOT DECIDED", "control_difference": nan, "control_low": nan, "control_high": nan,
        "control_verdict": "", "params": 1100, "macs": 2200, "latency_ratio": nan, "protocol": PROTOCOL,
        "versions": json.dumps(versions), **changed,
    }  # fmt: skip


def effect(module: str, group: str, difference: float, half: float = 0.01, **changed: Any) -> dict[str, Any]:
    """Return a row with a difference ± half, and the verdict of its interval."""
    low, high = difference - half, difference + half
    verdict = "BETTER" if low > 0 else "WORSE" if high < 0 else "NOT DECIDED"
    return row(module, group, **{"difference": difference, "low": low, "high": high, "verdict": verdict, **changed})


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return rows as `load_atlas` does."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(COLUMNS)


def atlas(*rows: dict[str, Any], unmeasured: tuple[Unmeasured, ...] = ()) -> Atlas:
    """Return an atlas in which each bare host has 1,000 parameters, 2,000 MACs and a metric of 0.5."""
    metrics = {2: ("accuracy", "maximize"), 1: ("mse", "minimize")}
    keys = dict.fromkeys((each["host"], each["data"], each["dims"]) for each in rows)
    groups = tuple(Measured(h, d, *metrics[dims], 0.5, 1000, 2000, 100) for h, d, dims in keys)
    return Atlas(frame(*rows), groups, unmeasured)
