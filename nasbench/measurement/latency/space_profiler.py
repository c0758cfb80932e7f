"""Make a device profile: measure the parts of a space on this device, group by group.

The file is written after each group. So a profile that was interrupted can be resumed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nasbench.backbones import default_input_size, slots
from nasbench.backbones.insertion import insert
from nasbench.errors import DeviceError, InputError, RunError
from nasbench.files import FileLock
from nasbench.library.plan import Plan
from nasbench.measurement.costs.model_costs import measure
from nasbench.measurement.latency.device_profile import DeviceProfile, load_device_profile, versions_here, with_measured
from nasbench.measurement.latency.devices import usable_device
from nasbench.measurement.latency.kernels import count_kernels
from nasbench.measurement.latency.profiler import Profile, profile
from nasbench.measurement.latency.scenario import Scenario
from nasbench.spaces import ResolvedSpace, load_space

__all__ = ["GROUP", "estimate_s", "profile_device"]

GROUP = 8
"""Number of plans that are measured side by side with each other and with the bare backbone."""

HELD_OUT = 16
"""Number of whole plans that check the predictions."""

_SETUP_S = 2.0  # rough time, in seconds, to build and copy the models of a group
_BARE = "bare"
_ASKED = ("batch_size", "mode", "amp", "channels_last")
_CONDITIONS = ("device", "device_name", "threads", "tf32", *_ASKED)
_IDENTITY = ("backbone", "input_size", "identity_init", "versions")


def profile_device(
    backbone: str,
    space: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    input_size: Sequence[int] | None = None,
    identity_init: bool = False,
    held_out: int = HELD_OUT,
    time_s: float = 20.0,
    seed: int = 0,
    on_group: Callable[[int, int, float], object] | None = None,
    measure_group: Callable[..., Profile] = profile,
    **options: Any,
) -> DeviceProfile:
    """Measure the time that each variant and composition adds at each slot, and whole plans to check the predictions.

    Each group contains the bare backbone. The file is written after each group. If the call is interrupted, the same
    call resumes where it stopped.

    Args:
        backbone: A timm name, a built-in forecasting backbone, or `FILE.py:function`.
        space: The space: a name, a YAML file or a mapping.
        out: The JSON file to write.
        input_size: Shape of one input, without the batch dimension. None means the backbone's default.
        identity_init: Whether modules are inserted with gates, as in a search with loaded weights.
        held_out: Number of whole plans drawn from the space to check the predictions.
        time_s: Longest time for the warm-up and blocks of a group, in seconds.
        seed: Seed of the draw.
        on_group: Function that is called before each group with the number of measured plans, the number of all plans,
            and the longest time that is left, in seconds.
        measure_group: The function that measures a group, with the signature of `profile`.
        options: Options of `profile`: device, batch_size, resolution, mode, amp, channels_last.

    Raises:
        RunError: If the file holds another profile, or another process is writing it.
        DeviceError: If this machine does not have the device, if the device has too little memory, or if no sample is
            accepted.
        InputError: If the backbone, the space or an option is wrong.
    """
    device = usable_device(options.get("device", "cpu"))
    size = tuple(input_size or default_input_size(backbone) or ())
    if not size:
        raise InputError(f"the input size of {backbone} is not known; pass input_size, without the batch dimension")
    resolved = load_space(space).resolve(slots(backbone, input_size=size))
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        scenario = _wanted(device, size, options)
        device_profile = DeviceProfile(backbone, size, identity_init, resolved.slots, scenario, versions_here())
        if out.exists():
            device_profile = _resumed(load_device_profile(out), device_profile, out)
        device_profile = _with_held_out(device_profile, resolved, held_out, seed)
        total = len(device_profile.parts) + len(device_profile.held_out)
        while todo := device_profile.missing:
            if on_group is not None:
                on_group(total - len(todo), total, _seconds(len(todo), time_s))
            device_profile = _group(device_profile, todo[:GROUP], time_s, seed, measure_group, options)
            device_profile.save(out)
        return device_profile


def estimate_s(resolved: ResolvedSpace, *, held_out: int = HELD_OUT, time_s: float = 20.0) -> float:
    """Return the longest time, in seconds, that `profile_device` takes, without waiting and compiling."""
    parts = DeviceProfile("", (), False, resolved.slots, Scenario("", "", (), 1), {}).parts
    return _seconds(len(parts) + held_out, time_s)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    lock = FileLock(out.with_name(out.name + ".lock"))
    if not lock.acquire(wait=False):
        raise RunError(f"another process is making {out}; wait until it ends, or give another file")
    try:
        yield
    finally:
        lock.release()


def _seconds(plans: int, time_s: float) -> float:
    return -(-plans // GROUP) * (time_s + _SETUP_S)


def _group(
    device_profile: DeviceProfile,
    texts: list[str],
    time_s: float,
    seed: int,
    measure_group: Callable[..., Profile],
    options: Mapping[str, Any],
) -> DeviceProfile:
    models = {
        name: insert(
            device_profile.backbone,
            plan,
            input_size=device_profile.input_size,
            identity_init=device_profile.identity_init,
        )
        for name, plan in {_BARE: None, **{text: text for text in texts}}.items()
    }
    measured = measure_group(
        models, input_size=device_profile.input_size, reference=_BARE, time_s=time_s, seed=seed, **options
    )
    if measured.stopped == "no accepted samples":
        raise DeviceError(
            f"no accepted samples on {measured.scenario.device}: its clock stayed under 75 % of the default"
        )
    if not device_profile.reference_ms:
        device_profile = replace(device_profile, scenario=measured.scenario)
    return with_measured(device_profile, {text: measured.ratio(text) for text in texts}, measured[_BARE].latency_ms)


def _wanted(device: torch.device, size: tuple[int, ...], options: Mapping[str, Any]) -> Scenario:
    """Return the part of the scenario that is known before any measurement."""
    asked = {key: options[key] for key in _ASKED if key in options}
    scenario = Scenario.now(device, torch.float32, None, {"batch_size": 1, **asked, "input_size": size})
    return replace(scenario, threads=options.get("threads") or scenario.threads)


def _resumed(there: DeviceProfile, wanted: DeviceProfile, out: Path) -> DeviceProfile:
    # Only the conditions that change the measured times are compared. The date and the load average may differ.
    pairs = {key: (getattr(there, key), getattr(wanted, key)) for key in _IDENTITY}
    pairs |= {key: (getattr(there.scenario, key), getattr(wanted.scenario, key)) for key in _CONDITIONS}
    pairs["torch"] = there.scenario.versions.get("torch"), wanted.scenario.versions.get("torch")
    differ = [f"{key}: {old} there, {new} now" for key, (old, new) in pairs.items() if old != new]
    if there.slots != wanted.slots:
        differ.append("another space")
    if differ:
        raise RunError(f"{out} holds a different device profile ({'; '.join(differ)}); give another file")
    return there


def _with_held_out(device_profile: DeviceProfile, resolved: ResolvedSpace, count: int, seed: int) -> DeviceProfile:
    """Draw `count` whole plans, or fewer if the space has no more. Count their MACs and kernels."""
    rng, drawn = random.Random(seed), dict(device_profile.held_out)
    # A plan from which predictions are made would be predicted perfectly, so it is not drawn.
    seen = {Plan({}).hash, *(Plan.of(text).hash for text in device_profile.parts)}
    for _ in range(count):
        plan = resolved.sample_unseen(rng, seen)
        if plan is None:
            break
        seen.add(plan.hash)
        if plan.text not in drawn:
            model = insert(
                device_profile.backbone,
                plan,
                input_size=device_profile.input_size,
                identity_init=device_profile.identity_init,
            )
            macs = measure(model, input_size=device_profile.input_size).macs
            drawn[plan.text] = (macs, count_kernels(model, device_profile.input_size))
    return replace(device_profile, held_out=drawn)
