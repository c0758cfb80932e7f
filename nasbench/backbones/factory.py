"""Build a backbone: a timm model, a built-in backbone (stem), or the user's own network."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from nasbench.backbones.checkpoints import read_checkpoint
from nasbench.backbones.names import check_backbone_name, is_file, is_sr_stem, is_stem, is_timm
from nasbench.backbones.sr_residual import SRResidual
from nasbench.backbones.stem_registry import STEMS
from nasbench.errors import BackboneError, NasbenchError, message_of
from nasbench.library.plugins import load_python_file, locate
from nasbench.library.source_names import not_defined

__all__ = [
    "DEFAULT_SERIES",
    "create_backbone",
    "default_input_size",
    "sr_class",
    "stem_arguments",
    "stems_for",
    "takes_argument",
    "takes_covariates",
    "takes_padding",
    "timm_arguments",
]

DEFAULT_SERIES = (96, 7)
"""Default lookback and number of series, as in the ETT benchmarks."""
_DEFAULT_HORIZON = 24
_DEFAULT_CLASSES = 10

_SR_SIZE = (3, 48, 48)
"""Default size of the small image of super-resolution, as in most papers."""

_SR_CLASSES: dict[str, type[nn.Module]] = {"sr_residual": SRResidual}


def default_input_size(backbone: str | nn.Module) -> tuple[int, ...] | None:
    """Return the default size of one input of a backbone, or None if it is not recorded."""
    if isinstance(backbone, str):
        if is_stem(backbone):
            return DEFAULT_SERIES
        if is_sr_stem(backbone):
            return _SR_SIZE
        if not is_timm(backbone):
            return None
        import timm  # imported here, because it takes seconds, and forecasting backbones need no timm

        config = timm.get_pretrained_cfg(backbone)
        size = config.input_size if config is not None else None
    else:
        size = (getattr(backbone, "pretrained_cfg", None) or {}).get("input_size")
    return tuple(size) if size else None


def create_backbone(
    name: str,
    *,
    input_size: Sequence[int] | None = None,
    num_classes: int | None = None,
    horizon: int | None = None,
    covariates: int | None = None,
    padded: bool = False,
    in_chans: int = 3,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    drop_path: float = 0.0,
) -> nn.Module:
    """Build a bare backbone, without any plan in it.

    Args:
        name: A timm architecture, a built-in backbone, or `FILE.py:function` for your own backbone. Your
            function is called by keyword with those of `input_size`, `num_classes`, `horizon`, `covariates` and
            `padded` that it names and that are known, or with all of them if it has `**kwargs`. It returns an
            nn.Module.
        input_size: `(C, H, W)` of an image, or `(lookback, series)`. None means the backbone's default. A timm model
            that is built for one fixed size gets the size as `img_size`.
        num_classes: Number of outputs of the classifier. None means the backbone's default.
        horizon: For a forecasting backbone, the number of forecast steps. Without it, and with `num_classes`, a
            built-in backbone for series classifies them.
        covariates: For a forecasting backbone, the number of covariates of each time step. It is ignored if the
            backbone takes none (see `takes_covariates`).
        padded: Whether series can be shorter than the lookback, so that their last steps are NaN. Only for a backbone
            that can leave padded steps out (see `takes_padding`).
        in_chans: Number of input channels if `input_size` is None.
        pretrained: Whether to load timm's pretrained weights.
        checkpoint: A file of weights to load. If the classifier in the file has another size than the model's, the
            weights of the classifier are not loaded. Checkpoints of Lightning, DistributedDataParallel, EMA and
            `torch.compile` are understood, and a warning says what was read from them.
        drop_path: Highest rate of stochastic depth in the blocks of a timm model. It acts in training only.

    Raises:
        UnknownNameError: If no backbone has this name. The message suggests the nearest names.
        BackboneError: If the backbone cannot be built for this size, or the checkpoint does not fit.
        PluginError: If the user's file fails to load.

    Example:
        >>> create_backbone("resnet18", num_classes=10).num_classes
        10
    """
    size = tuple(input_size) if input_size is not None else None
    if is_file(name):
        wanted = {"num_classes": num_classes, "horizon": horizon, "covariates": covariates, "padded": padded or None}
        model = _from_file(name, size, **wanted)
    elif is_stem(name):
        model = STEMS.get(name)(**stem_arguments(name, size, horizon, covariates, num_classes, padded))
    elif is_sr_stem(name):
        if size is not None and (len(size) != 3 or size[0] != 3):
            raise BackboneError(f"{name} takes colour images: its input size must be (3, height, width), got {size}")
        model = sr_class(name)()
    else:
        model = _timm(check_backbone_name(name), size, in_chans, num_classes, pretrained, drop_path)
    if drop_path and not is_timm(name):
        raise BackboneError(f"{name} is no timm model, so drop_path must be 0")
    if pretrained and not is_timm(name):
        raise BackboneError(f"{name} has no pretrained weights; give a checkpoint")
    if checkpoint is not None:
        _load(model, Path(checkpoint))
    return model


def sr_class(name: str) -> type[nn.Module]:
    """Return the class of a built-in backbone for super-resolution."""
    return _SR_CLASSES[name]


def _timm(
    name: str,
    size: tuple[int, ...] | None,
    in_chans: int,
    num_classes: int | None,
    pretrained: bool,
    drop_path: float,
) -> nn.Module:
    import timm
    from timm.layers import DropPath

    if size is not None and len(size) != 3:
        raise BackboneError(f"{name} takes images: its input size must be (channels, height, width), got {size}")
    depth: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    for given in timm_arguments(name, size, in_chans, num_classes):
        try:
            model = timm.create_model(name, pretrained=pretrained, **given, **depth)
        except TypeError as error:
            if "drop_path_rate" in str(error):
                raise BackboneError(f"{name} has no stochastic depth, so drop_path must be 0") from None
            # A model that accepts any size does not accept `img_size`. The next arguments leave `img_size` out.
            if "img_size" not in given or "img_size" not in str(error):
                raise BackboneError(f"timm cannot build {name} for {size}: {error}") from error
        # The errors of huggingface_hub (no network, offline mode, no such file) are OSErrors.
        except OSError as error:
            raise BackboneError(
                f"cannot load the pretrained weights of {name} ({type(error).__name__}: {error}); without a network"
                " connection, give a file of weights: --checkpoint FILE, or checkpoint="
            ) from error
        except (RuntimeError, ValueError, AssertionError) as error:
            raise BackboneError(f"timm cannot build {name} for {size}: {error}") from error
        else:
            if drop_path and not any(isinstance(module, DropPath) for module in model.modules()):
                raise BackboneError(f"{name} has no stochastic depth, so drop_path must be 0")
            return model
    raise AssertionError("unreachable")


def timm_arguments(
    name: str, size: tuple[int, ...] | None = None, in_chans: int = 3, num_classes: int | None = None
) -> list[dict[str, Any]]:
    """Return the arguments to try with `timm.create_model`, in order. Use the first ones that it accepts.

    Only models that are built for one fixed size accept `img_size`. All other models accept any size, but not this
    argument. For the default size, `img_size` is left out, so that the backbone is exactly timm's model.
    """
    given: dict[str, Any] = {}
    if size is not None:
        in_chans = size[0]
    if in_chans != 3:
        given["in_chans"] = in_chans
    if num_classes is not None:
        given["num_classes"] = num_classes
    if size is None or size == default_input_size(name):
        return [given]
    return [{**given, "img_size": size[1:]}, given]


def stems_for(argument: str) -> list[str]:
    """Return the names of the built-in backbones for series whose constructors have an argument.

    Those with `horizon` forecast, and those with `num_classes` classify. A backbone can do both.
    """
    return [name for name in STEMS if _has_argument(name, argument)]


def takes_covariates(name: str) -> bool:
    """Return whether `name` is a forecasting backbone that can be built with time covariates."""
    return is_stem(name) and _has_argument(name, "covariates")


def takes_padding(name: str) -> bool:
    """Return whether a backbone can be built for series of unequal lengths, so that it leaves padded steps out.

    A user's function says so with an argument `padded`.

    Raises:
        PluginError: If the user's file fails to load.
        UnknownNameError: If the file does not define the function.
    """
    if is_file(name):
        return "padded" in inspect.signature(_user_function(name)).parameters
    return is_stem(name) and _has_argument(name, "padded")


def takes_argument(name: str, argument: str) -> bool:
    """Return whether a user's function `FILE.py:function` gets an argument if its value is known.

    Raises:
        PluginError: If the user's file fails to load.
        UnknownNameError: If the file does not define the function.
    """
    return _gets(inspect.signature(_user_function(name)).parameters, argument)


def _gets(known: Mapping[str, inspect.Parameter], argument: str) -> bool:
    return argument in known or any(p.kind is p.VAR_KEYWORD for p in known.values())


def _has_argument(stem: str, argument: str) -> bool:
    known = inspect.signature(STEMS.get(stem)).parameters
    # A class with `**kwargs` gets the arguments of a forecast, because every class got them before others classified.
    return argument in known or (argument == "horizon" and any(p.kind is p.VAR_KEYWORD for p in known.values()))


def stem_arguments(
    name: str,
    size: tuple[int, ...] | None = None,
    horizon: int | None = None,
    covariates: int | None = None,
    num_classes: int | None = None,
    padded: bool = False,
) -> dict[str, int | None]:
    """Return the arguments for the class of a built-in backbone for series.

    Covariates are left out if the backbone takes none. If neither a horizon nor a number of classes is given, the
    backbone forecasts if it can.

    Raises:
        BackboneError: If the size is not (lookback, series), or if the backbone cannot be built for what is asked.
    """
    size = DEFAULT_SERIES if size is None else size
    if len(size) != 2:
        raise BackboneError(f"{name} is for series: its input size must be (lookback, series), got {size}")
    forecasts, classifies = _has_argument(name, "horizon"), _has_argument(name, "num_classes")
    if horizon is not None and num_classes is not None:
        raise BackboneError(f"{name} either forecasts or classifies: give horizon or num_classes, not both")
    if (horizon is not None and not forecasts) or (num_classes is not None and not classifies):
        known = stems_for("horizon" if horizon is not None else "num_classes")
        what = "forecast" if horizon is not None else "classify series"
        raise BackboneError(f"{name} does not {what}; backbones that do: {', '.join(known)}")
    if padded and not takes_padding(name):
        raise BackboneError(
            f"{name} cannot leave padded steps out; backbones that can: {', '.join(stems_for('padded'))}"
        )
    if padded and horizon is not None:
        raise BackboneError(f"{name} forecasts no series of unequal lengths; leave out padded, or give num_classes")
    given: dict[str, int | None] = {"lookback": size[0], "series": size[1]}
    if num_classes is None and forecasts:
        more = {"covariates": covariates} if covariates and takes_covariates(name) else {}
        return {**given, "horizon": horizon or _DEFAULT_HORIZON, **more}
    given |= {"horizon": None} if forecasts else {}
    return {**given, "num_classes": num_classes or _DEFAULT_CLASSES, **({"padded": True} if padded else {})}


@lru_cache(maxsize=32)
def _user_file(path: Path, modified: int) -> ModuleType:
    """Load each version of a user's file only once. A second load would make models of the first unpicklable."""
    return load_python_file(path)


def _user_function(name: str) -> Callable[..., Any]:
    """Return the user's function `FILE.py:function` that builds a backbone."""
    file, _, function = name.rpartition(":")
    path = Path(file).expanduser().resolve()
    module = _user_file(path, path.stat().st_mtime_ns if path.is_file() else 0)
    build = getattr(module, function, None)
    if not callable(build):
        # Only functions that the file defines are suggested, not those that it imports.
        own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        raise not_defined("backbone", function, file, own)
    return build


def _from_file(name: str, size: tuple[int, ...] | None, **wanted: Any) -> nn.Module:
    path = Path(name.rpartition(":")[0]).expanduser().resolve()
    build = _user_function(name)
    # A user's function declares only the arguments that it needs, so it receives no others.
    asked = {"input_size": size, **wanted}
    arguments = _arguments(build, name, asked)
    try:
        model = build(**arguments)
    except NasbenchError:  # its message was written for the user
        raise
    except (Exception, SystemExit) as error:
        where = locate(error, path)
        raise BackboneError(f"{where}: {name} cannot be built: {type(error).__name__}: {message_of(error)}") from error
    if not isinstance(model, nn.Module):
        hint = "; its last line must be `return model`" if model is None else ""
        raise BackboneError(f"{_defined_at(build, path)}: {name} returned {model!r:.80}, not an nn.Module{hint}")
    return model


def _arguments(build: Callable[..., Any], name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a user's function: those that it names, or all if it has `**kwargs`.

    Raises:
        BackboneError: If the function needs an argument that it does not get.
    """
    known = inspect.signature(build).parameters
    given = {k: v for k, v in asked.items() if v is not None and _gets(known, k)}
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p for p in known.values() if p.default is p.empty and p.kind not in optional]
    missing = [p.name for p in needed if p.name not in given or p.kind is p.POSITIONAL_ONLY]
    if missing:
        path = Path(name.rpartition(":")[0]).expanduser().resolve()
        raise BackboneError(
            f"{_defined_at(build, path)}: {name} needs {', '.join(missing)}, but it is called with"
            f" {', '.join(given) or 'no argument'}: {'; '.join(_why_missing(p, asked, given) for p in missing)}."
            f" Arguments that it can get are {', '.join(asked)}, by keyword; give every other one a default"
        )
    return given


def _why_missing(argument: str, asked: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    if argument in given:
        return f"{argument} accepts no keyword, because of the / behind it"
    if argument in asked:
        return f"{argument} is not known without a task or an option that sets it, so it needs a default"
    return f"{argument} is never given"


def _defined_at(build: Callable[..., Any], path: Path) -> str:
    """Return "file:line" of a user's function, or the file if the line is not known."""
    try:
        return f"{path}:{inspect.getsourcelines(build)[1]}"
    except (OSError, TypeError):
        return str(path)


def _load(model: nn.Module, file: Path) -> None:
    """Load weights strictly, but skip a classifier whose size differs."""
    own = model.state_dict()
    state, said = read_checkpoint(file, own)
    if said:
        warnings.warn(f"read from {file}: {said}", stacklevel=3)
    # timm's configuration names the classifier of a model, or the several classifiers of a distilled model.
    heads = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    state = {
        key: value
        for key, value in state.items()
        if not (key.startswith(heads) and key in own and own[key].shape != value.shape)
    }
    # No key starts with "\0", so a model without a named classifier must get all of its weights.
    missing = [k for k in own if k not in state and not k.startswith(heads or ("\0",))]
    wrong = [k for k in state if k not in own or own[k].shape != state[k].shape]
    if missing or wrong:
        raise BackboneError(
            f"{file} contains the weights of another network: {len(missing)} missing ({', '.join(missing[:3])}), "
            f"{len(wrong)} that do not fit ({', '.join(wrong[:3])})"
        )
    with torch.no_grad():
        # Not strict, because the classifier can be missing in `state`. All other keys were compared above.
        model.load_state_dict(state, strict=False)
