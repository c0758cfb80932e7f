"""A device profile: the latency that each part of a space adds on one device.

From a device profile, a search on another machine predicts latency. The predicted ratio of a plan's time to the time of
the bare backbone is 1 plus a sum over slots. A slot adds the time that each of its variants adds alone, and the
overhead of the composition that joins them, both as shares of the bare backbone's time. Whole plans of the space are
measured too, to check how good the predictions are.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nasbench import __version__
from nasbench.errors import BackboneError, DeviceError, InputError, PlanError, SpaceError
from nasbench.library.expression import parse
from nasbench.library.plan import Plan
from nasbench.measurement.latency.scenario import Scenario
from nasbench.spaces import LETTERS, ResolvedSpace, SlotChoices, letters_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DeviceProfile",
    "HeldOut",
    "Prediction",
    "judged",
    "load_device_profile",
    "versions_here",
    "with_measured",
    "within_10pct",
]

SCHEMA_VERSION = 1

_MAX_FILE_BYTES = 50_000_000  # anybody can have made the file, so its length is checked before it is read
_TOLERANCE = 0.1  # largest relative error with which a prediction counts as good
_PLAIN = ("backbone", "identity_init", "versions")


@dataclass(frozen=True)
class Prediction:
    """A predicted latency.

    Attributes:
        latency_ms: Milliseconds on the profiled device.
        ratio: Latency divided by the latency of the bare backbone.
    """

    latency_ms: float
    ratio: float


@dataclass(frozen=True)
class HeldOut:
    """The quality of latency predictions, measured on whole plans that were not used to make the predictions.

    Attributes:
        plans: Number of plans that were measured.
        within_10pct: Share of the plans whose predicted ratio is within ±10 % of the measured ratio.
        kendall_tau: Kendall's rank correlation of predicted and measured ratios. None where it is undefined.
        macs_tau: The rank correlation of MACs and measured ratios, as a baseline.
        kernels_tau: The rank correlation of the number of kernels and measured ratios, as a baseline.
    """

    plans: int
    within_10pct: float
    kendall_tau: float | None
    macs_tau: float | None
    kernels_tau: float | None

    @property
    def text(self) -> str:
        """The quality in one line, for reports."""
        return (
            f"{100 * self.within_10pct:.0f} % of {self.plans} whole plans within ±10 %, Kendall's tau "
            f"{_number(self.kendall_tau)} (MACs alone {_number(self.macs_tau)}, kernel count "
            f"{_number(self.kernels_tau)})"
        )


@dataclass(frozen=True)
class DeviceProfile:
    """The measurements of one space in one backbone on one device, and the predictions made from them.

    Attributes:
        backbone: Name of the backbone.
        input_size: Shape of one input, without the batch dimension.
        identity_init: Whether modules were inserted with a gate, as in `insert`.
        slots: The choices that the space offers at each slot.
        scenario: Scenario of the first measurement.
        versions: Versions of nasbench and timm. They determine the modules and the backbone.
        reference_ms: Latency of the bare backbone in milliseconds, one value for each group that was measured.
        measured: For each plan, by the plan's text: time divided by the time of the bare backbone (estimate, low,
            high).
        held_out: For each whole plan on which the predictions are checked, by the plan's text: number of MACs and
            number of kernels.
    """

    backbone: str
    input_size: tuple[int, ...]
    identity_init: bool
    slots: tuple[SlotChoices, ...]
    scenario: Scenario
    versions: Mapping[str, str]
    reference_ms: tuple[float, ...] = ()
    measured: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    held_out: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def bare_ms(self) -> float:
        """Latency of the bare backbone in milliseconds: the median over the groups."""
        return float(np.median(self.reference_ms))

    @property
    def missing(self) -> list[str]:
        """The texts of the plans that must still be measured."""
        return [text for text in (*self.parts, *self.held_out) if text not in self.measured]

    @cached_property
    def parts(self) -> dict[str, tuple[str, str]]:
        """The plans from which predictions are made. The text of a plan maps to (slot, variant or composition)."""
        return {text: (choices.slot, key) for choices in self.slots for key, text in _parts(choices)}

    def predict(self, plan: Plan | Mapping[str, Any] | str | None) -> Prediction:
        """Predict the latency of a plan.

        Raises:
            PlanError: If the plan is not in the profiled space.
            DeviceError: If a part of the plan has not been measured yet.
        """
        plan = Plan.of(plan).resolve([choices.slot for choices in self.slots])
        ratio = 1.0 + sum(self._slot(choices, plan) for choices in self.slots if choices.slot in plan)
        return Prediction(ratio * self.bare_ms, ratio)

    def added(self, slot: str, variant: str) -> float:
        """Return the time that a variant alone adds at a slot, as a share of the bare backbone's time."""
        return self._ratio(_text(slot, variant)) - 1

    def overhead(self, slot: str, composition: str) -> float:
        """Return the overhead of a composition at a slot, as a share of the bare time. 0 for a variant alone.

        The overhead is the time that the composition adds to the times that its variants add alone.
        """
        if composition in LETTERS:
            return 0.0
        choices = next(choices for choices in self.slots if choices.slot == slot)
        probe = _probe(choices, composition)
        together = self._ratio(_text(slot, _filled(composition, probe))) - 1
        return together - sum(self.added(slot, variant) for variant in probe.values())

    def _slot(self, choices: SlotChoices, plan: Plan) -> float:
        expression = plan[choices.slot]
        if expression in choices.variants:  # the expression was measured by itself, without a composition
            return self.added(choices.slot, expression.canonical())
        setting = choices.options.get(expression)
        if setting is None:
            raise PlanError(
                f"{choices.slot}: {expression} is not in the space that was profiled; measure the plan on the device"
            )
        composition = setting[f"{choices.slot}.composition"]
        variants = [setting[f"{choices.slot}.{letter}"] for letter in letters_of(composition)]
        return self.overhead(choices.slot, composition) + sum(self.added(choices.slot, v) for v in variants)

    def _ratio(self, text: str) -> float:
        if text not in self.measured:
            raise DeviceError(
                f"this device profile is not complete: {text} is not measured yet; repeat the command that made it"
            )
        return self.measured[text][0]

    def quality(self) -> HeldOut | None:
        """Return the quality of the predictions for the held-out plans, or None if fewer than two were measured."""
        texts = [text for text in self.held_out if text in self.measured]
        if len(texts) < 2:  # a rank correlation needs two values
            return None
        truth = np.array([self.measured[text][0] for text in texts])
        predicted = np.array([self.predict(text).ratio for text in texts])
        macs, kernels = zip(*[self.held_out[text] for text in texts], strict=True)
        return judged(predicted, truth, macs, kernels)

    def frame(self) -> pd.DataFrame:
        """Return a table of the time that each variant and composition adds at each slot, as a share and in ms."""
        rows, known = [], {choices.slot: choices for choices in self.slots}
        for slot, key in ((choices.slot, key) for choices in self.slots for key, _ in _parts(choices)):
            composed = key in known[slot].compositions
            share = self.overhead(slot, key) if composed else self.added(slot, key)
            row = {"slot": slot, "kind": "composition" if composed else "variant", "name": key}
            rows.append({**row, "added_share": share, "added_ms": share * self.bare_ms})
        import pandas as pd  # imported here to keep the command line fast

        return pd.DataFrame(rows)

    def check(
        self, backbone: str, input_size: Sequence[int], space: ResolvedSpace, *, identity_init: bool | None = None
    ) -> None:
        """Check that the profile can predict the plans of a search.

        Args:
            backbone: Name of the search's backbone.
            input_size: Shape of one input, without the batch dimension.
            space: The space from which the plans come.
            identity_init: Whether plans are inserted with gates. None means that this is not checked.

        Raises:
            BackboneError: If the profile is for another backbone or input size, or differs in whether there are gates.
            SpaceError: If the space has a slot, variant or composition that was not measured.
            DeviceError: If the profile was made with another version of nasbench or timm, or is not complete.
        """
        size = tuple(input_size)
        if (backbone, size) != (self.backbone, self.input_size):
            raise BackboneError(
                f"this device profile is of {self.backbone} at {self.input_size}, not of {backbone} at {size}; "
                "make one with `nasbench profile` on the device"
            )
        if identity_init not in (None, self.identity_init):
            with_gates, without = "with gates (--identity-init), as loaded weights need", "without gates"
            made, wanted = (with_gates, without) if self.identity_init else (without, with_gates)
            raise BackboneError(f"this device profile was made {made}, but the search inserts {wanted}; profile again")
        known = {choices.slot: choices for choices in self.slots}
        for choices in space.slots:
            _check_slot(known.get(choices.slot), choices)
        if dict(self.versions) != versions_here():
            raise DeviceError(
                f"this device profile was made with {_spell(self.versions)}, but here is {_spell(versions_here())}: "
                "modules may differ; profile again, or install the versions it was made with"
            )
        if self.missing:
            raise DeviceError(
                f"this device profile is not complete: {len(self.missing)} plans are not measured yet; repeat the "
                "command that made it, which resumes where it stopped"
            )

    def describe(self) -> dict[str, Any]:
        """Return what identifies the profile, and the quality of its predictions, as JSON-serialisable data.

        The data is part of a run's identity.
        """
        quality = self.quality()
        # The hash covers every measured value, so a new measurement gives the profile another identity.
        values = {"reference_ms": self.reference_ms, "measured": dict(sorted(self.measured.items()))}
        return {
            **{key: getattr(self.scenario, key) for key in ("device", "device_name", "date")},
            **{key: getattr(self.scenario, key) for key in ("batch_size", "mode", "amp", "channels_last", "threads")},
            "quality": None if quality is None else asdict(quality),
            "sha256": hashlib.sha256(json.dumps(values).encode()).hexdigest(),
        }

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON, atomically.

        The entries `added`, `bare_ms`, `scenario_text` and `quality` are for human readers. Loading ignores them.
        """
        quality = None if self.missing else self.quality()
        document = {
            "schema_version": SCHEMA_VERSION,
            **{key: getattr(self, key) for key in _PLAIN},
            "input_size": self.input_size,
            "scenario": self.scenario.to_dict(),
            "scenario_text": self.scenario.text,
            "bare_ms": self.bare_ms if self.reference_ms else None,
            "slots": [_slot_to_dict(choices) for choices in self.slots],
            "added": [] if self.missing else self.frame().to_dict("records"),
            "quality": None if quality is None else asdict(quality),
            **{key: getattr(self, key) for key in ("reference_ms", "measured", "held_out")},
        }
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The text is written to a temporary file in the same folder. This file is then renamed, because a rename is
        # atomic.
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        draft.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        os.replace(draft, path)


_Ratio = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


class _Choices(BaseModel):
    """One slot of a device profile in a file."""

    model_config = ConfigDict(extra="allow", strict=True)

    slot: str
    compositions: list[str]
    variants: list[str]
    distinct_properties: bool


class _Document(BaseModel):
    """The entries of a file that are read. They are validated, because anybody can have made the file."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    backbone: str
    identity_init: bool
    versions: dict[str, str]
    input_size: list[Annotated[int, Field(gt=0)]] = Field(min_length=2, max_length=3)
    scenario: dict[str, Any]
    slots: list[_Choices]
    reference_ms: list[Annotated[float, Field(gt=0)]]
    measured: dict[str, _Ratio]
    held_out: dict[str, Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]]


def load_device_profile(path: str | Path) -> DeviceProfile:
    """Read a device profile from its file.

    Raises:
        InputError: If the file cannot be read, or is not a device profile of this version.
        UnknownNameError: If a module of the profile's space does not exist here.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"{path} has more than {_MAX_FILE_BYTES:,} bytes, too many for a device profile")
        given = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(given, dict) or given.get("schema_version") != SCHEMA_VERSION or "slots" not in given:
            raise InputError(f"{path} is not a device profile of version {SCHEMA_VERSION}; make one on the device")
        _Document.model_validate(given)
        return DeviceProfile(
            **{key: given[key] for key in _PLAIN},
            input_size=tuple(given["input_size"]),
            scenario=Scenario.from_dict(given["scenario"]),
            slots=tuple(_slot_from_dict(choices) for choices in given["slots"]),
            reference_ms=tuple(given["reference_ms"]),
            measured={text: (r[0], r[1], r[2]) for text, r in given["measured"].items()},
            held_out={text: (macs, kernels) for text, (macs, kernels) in given["held_out"].items()},
        )
    except OSError as error:
        raise InputError(f"cannot read device profile {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:200]
        raise InputError(f"{path} is a damaged device profile: {place}: {first['msg']}; make it again") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {str(error).splitlines()[0]}") from None
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(
            f"{path} is a damaged device profile ({type(error).__name__}: {error}); make it again"
        ) from None


def judged(predicted: ArrayLike, measured: ArrayLike, macs: ArrayLike, kernels: ArrayLike) -> HeldOut:
    """Compare predictions, and the baselines MACs and number of kernels, with measurements of the same plans.

    Args:
        predicted: (n,), predicted ratios or latencies.
        measured: (n,), measured values in the same unit.
        macs: (n,), MACs of the plans.
        kernels: (n,), number of kernels of the plans.
    """
    predicted, measured = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    return HeldOut(
        plans=len(measured),
        within_10pct=within_10pct(predicted, measured),
        kendall_tau=_tau(predicted, measured),
        macs_tau=_tau(macs, measured),
        kernels_tau=_tau(kernels, measured),
    )


def within_10pct(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Return the share of predictions within ±10 % of the measured values."""
    return float(np.mean(np.abs(np.asarray(predicted) / np.asarray(measured) - 1) <= _TOLERANCE))


def versions_here() -> dict[str, str]:
    """Return the versions of nasbench and timm. A prediction is valid only for the versions of its profile."""
    return {"nasbench": __version__, "timm": importlib.metadata.version("timm")}


def with_measured(
    profile: DeviceProfile, ratios: Mapping[str, tuple[float, float, float]], reference_ms: float
) -> DeviceProfile:
    """Return `profile` with the measurements of another group added."""
    return replace(profile, measured={**profile.measured, **ratios}, reference_ms=(*profile.reference_ms, reference_ms))


def _parts(choices: SlotChoices) -> Iterator[tuple[str, str]]:
    """Yield a pair (variant or composition, text of its plan) for everything that must be measured at a slot."""
    for variant in choices.variants:
        yield variant.canonical(), _text(choices.slot, variant.canonical())
    for composition in choices.parameters[f"{choices.slot}.composition"]:
        if composition not in (*LETTERS, "none"):
            yield composition, _text(choices.slot, _filled(composition, _probe(choices, composition)))


def _probe(choices: SlotChoices, composition: str) -> dict[str, str]:
    """Return the variants with which a composition's overhead is measured: the first ones, repeated if necessary."""
    variants = [variant.canonical() for variant in choices.variants]
    return {letter: variants[i % len(variants)] for i, letter in enumerate(letters_of(composition))}


def _filled(composition: str, bound: Mapping[str, str]) -> str:
    return parse(composition, {letter: parse(text) for letter, text in bound.items()}).canonical()


def _text(slot: str, expression: str) -> str:
    return Plan.of({slot: expression}).text


def _tau(a: ArrayLike, b: ArrayLike) -> float | None:
    from scipy.stats import kendalltau  # imported here because it takes a second

    tau = float(kendalltau(a, b).statistic)
    return None if np.isnan(tau) else tau


def _number(tau: float | None) -> str:
    return "undefined" if tau is None else f"{tau:.2f}"


def _check_slot(known: SlotChoices | None, wanted: SlotChoices) -> None:
    if known is None:
        raise SpaceError(f"slot {wanted.slot} is not in this device profile; profile this space on the device")
    lacking = [v.canonical() for v in wanted.variants if v not in known.variants]
    lacking += [c for c in wanted.parameters[f"{wanted.slot}.composition"] if c not in (*known.compositions, "none")]
    if lacking:
        raise SpaceError(
            f"this device profile is of another space: {lacking[0]} was not measured at {wanted.slot}"
            f"{f' and {len(lacking) - 1} more' if lacking[1:] else ''}; profile this space on the device"
        )


def _slot_to_dict(choices: SlotChoices) -> dict[str, Any]:
    kept = {key: getattr(choices, key) for key in ("slot", "compositions", "distinct_properties")}
    return {**kept, "variants": [variant.canonical() for variant in choices.variants]}


def _slot_from_dict(given: Mapping[str, Any]) -> SlotChoices:
    return SlotChoices(
        given["slot"],
        tuple(given["compositions"]),
        tuple(parse(text) for text in given["variants"]),
        given["distinct_properties"],
    )


def _spell(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
