"""The result of a latency measurement: the raw samples of each block, and everything that is computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench.errors import InputError, UnknownNameError
from nasbench.measurement.latency.blocks import Blocks, Stopped
from nasbench.measurement.latency.intervals import MIN_PAIRS, Interval, Verdict, median_interval, verdict
from nasbench.measurement.latency.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Latency", "Profile", "log_ratio", "settled"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Latency:
    """The latency of one model.

    Attributes:
        name: Name of the model.
        latency_ms: Median time of a call on the device, in milliseconds.
        low_ms: Lower end of the bootstrap interval of this median, at the profile's confidence level.
        high_ms: Upper end of the same interval.
        q25_ms: First quartile of the times of the calls.
        q75_ms: Third quartile of the times of the calls.
        ratio: Time of the model divided by the time of the reference, from the median log-ratio within blocks.
        ratio_low: Lower end of the bootstrap interval of the ratio, at the profile's confidence level.
        ratio_high: Upper end of the same interval.
        verdict: Verdict of the comparison with the reference.
        samples: Number of calls from which the values above are computed.
        discarded: Number of calls that were left out, because the GPU's clock was low or another process had the core.
        wall_ms: Median time of a call on the host, in milliseconds, until the result was available.
        launch_bound: Wall time on the host divided by the time for which the GPU works. If it is far above 1, the GPU
            waits for the host. None on a CPU.
    """

    name: str
    latency_ms: float
    low_ms: float
    high_ms: float
    q25_ms: float
    q75_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    verdict: Verdict
    samples: int
    discarded: int
    wall_ms: float
    launch_bound: float | None = None


@dataclass(frozen=True)
class Profile:
    """A latency measurement: the raw samples, and everything that is computed from them.

    Attributes:
        scenario: Conditions of the measurement.
        reference: Name of the model with which the others are compared.
        blocks: The raw samples.
        stopped: Why the measurement ended: "resolution" (every interval is narrow enough), "time" (the time is over),
            "blocks" (the largest number is reached), or "no accepted samples".
        resolution: Target for the half-width of the interval of each ratio, as a fraction: 0.01 is 1 %.
        confidence: Confidence level of all intervals.
        warm_up_rounds: Number of rounds before the first block.
        steady: Whether the warm-up ended in a steady state.
        busy_ms: For each model, the time in milliseconds for which the GPU works for one call. Empty on a CPU.
        gpu_after: What the driver reported right after the last block, while the GPU is warm, with the same entries as
            `gpu` of the scenario. Empty on a CPU.
        wall_s: Duration of warm-up and blocks in seconds.
    """

    scenario: Scenario
    reference: str
    blocks: Blocks
    stopped: Stopped
    resolution: float = 0.01
    confidence: float = 0.99
    warm_up_rounds: int = 0
    steady: bool = True
    busy_ms: Mapping[str, float] = field(default_factory=dict)
    gpu_after: Mapping[str, int | None] = field(default_factory=dict)
    wall_s: float = 0.0

    @property
    def samples(self) -> dict[str, list[float]]:
        """For each model, its time in milliseconds in each block. `blocks.flaws` says which samples are discarded."""
        return self.blocks.ms

    @cached_property
    def rows(self) -> list[Latency]:
        """One row for each model, in the order in which the models were given."""
        return [self._row(name) for name in self.blocks.ms]

    def __getitem__(self, name: str) -> Latency:
        return self.rows[list(self.blocks.ms).index(self._known(name))]

    def ratio(self, name: str, reference: str | None = None) -> Interval:
        """Return the time of `name` divided by that of `reference`, as estimate, low and high end of its interval.

        If `reference` is None, it is the reference of the profile.
        """
        names = self._known(name), self._known(reference or self.reference)
        estimate, low, high = (math.exp(value) for value in log_ratio(self.blocks, *names, self.confidence)[0])
        return estimate, low, high

    def compare(self, a: str, b: str) -> Verdict:
        """Return the verdict on `a` compared with `b`, from their ratio within blocks. FASTER: `a` is faster.

        Raises:
            UnknownNameError: If `a` or `b` was not measured.
        """
        interval, pairs = log_ratio(self.blocks, self._known(a), self._known(b), self.confidence)
        return verdict(interval, pairs, self.resolution)

    def ranks(self) -> dict[str, int]:
        """Return the rank of each model by latency, from 1.

        The models are sorted by their ratio. Each model gets the rank of the model before it, unless it is SLOWER than
        the first model with this rank.
        """
        ranks: dict[str, int] = {}
        leader, rank = "", 0
        for name in sorted(self.blocks.ms, key=lambda name: self[name].ratio):
            if not rank or self.compare(name, leader) == "SLOWER":
                leader, rank = name, len(ranks) + 1
            ranks[name] = rank
        return ranks

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    def _known(self, name: str) -> str:
        if name not in self.blocks.ms:
            raise UnknownNameError("model", name, self.blocks.ms)
        return name

    def _row(self, name: str) -> Latency:
        # The latency uses all blocks that are accepted for this model. The ratio uses only those that are accepted for
        # this model and for the reference.
        accepted = self.blocks.accepted(name)
        ms = np.array(self.blocks.ms[name])[accepted]
        wall_ms = _median(np.array(self.blocks.wall_ms[name])[accepted])
        median, low, high = median_interval(ms, self.confidence)
        q25, q75 = np.quantile(ms, (0.25, 0.75)).tolist() if len(ms) else (math.nan, math.nan)
        ratio, ratio_low, ratio_high = self.ratio(name)
        busy = self.busy_ms.get(name)
        return Latency(
            name=name,
            latency_ms=median,
            low_ms=low,
            high_ms=high,
            q25_ms=q25,
            q75_ms=q75,
            ratio=ratio,
            ratio_low=ratio_low,
            ratio_high=ratio_high,
            verdict=self.compare(name, self.reference),
            samples=len(ms),
            discarded=len(self.blocks) - len(ms),
            wall_ms=wall_ms,
            launch_bound=wall_ms / busy if busy else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable data with the raw samples, from which `from_dict` computes everything else again."""
        return {
            "schema_version": SCHEMA_VERSION,
            **{key: getattr(self, key) for key in _PLAIN},
            "scenario": self.scenario.to_dict(),
            "busy_ms": dict(self.busy_ms),
            "gpu_after": dict(self.gpu_after),
            "blocks": asdict(self.blocks),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Profile:
        """Return the profile that `to_dict` wrote.

        Raises:
            InputError: If `given` is not a latency profile of this version.
        """
        if given.get("schema_version") != SCHEMA_VERSION or "blocks" not in given:
            raise InputError(f"this is not a latency profile of version {SCHEMA_VERSION}; measure it again")
        return cls(
            scenario=Scenario.from_dict(given["scenario"]),
            blocks=Blocks(**given["blocks"]),
            busy_ms=given["busy_ms"],
            gpu_after=given.get("gpu_after", {}),
            **{key: given[key] for key in _PLAIN},
        )


_PLAIN = ("reference", "stopped", "resolution", "confidence", "warm_up_rounds", "steady", "wall_s")


def log_ratio(blocks: Blocks, name: str, reference: str | None, confidence: float) -> tuple[Interval, int]:
    """Return the median of log(time of `name` / time of `reference`) with its interval, and the number of blocks used.

    If there is no reference, the logarithm of the time of `name` is used instead.
    """
    accepted = blocks.accepted(name, reference) if reference else blocks.accepted(name)
    logs = np.log(np.array(blocks.ms[name])[accepted])
    if reference:
        logs = logs - np.log(np.array(blocks.ms[reference])[accepted])
    return median_interval(logs, confidence), len(accepted)


def settled(blocks: Blocks, reference: str, resolution: float, confidence: float) -> bool:
    """Return whether the interval of every ratio to the reference is at most twice `resolution` wide.

    If there is no other model, this is checked for the time of the reference itself.
    """
    others = [name for name in blocks.ms if name != reference]
    pairs: list[tuple[str, str | None]] = [(name, reference) for name in others] or [(reference, None)]
    for name, base in pairs:
        (_, low, high), count = log_ratio(blocks, name, base, confidence)
        # The width of an interval of logarithms is a relative width.
        if count < MIN_PAIRS or high - low > 2 * resolution:
            return False
    return True


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else math.nan
