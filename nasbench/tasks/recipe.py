"""The training recipe: the settings of the training loop. Each setting has a default and can be set from text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from nasbench.errors import InputError, UnknownNameError
from nasbench.library.timm_names import timm_names
from nasbench.text import number_text

__all__ = ["Augmentation", "Recipe", "choices_of", "fault_of", "refuse_boolean"]

Augmentation = Literal["none", "flip", "crop", "randaug"]

_NEW = ("ema", "layer_decay", "drop_path", "grad_checkpointing", "channels_last", "compile")
"""Settings that older runs do not have. At their defaults, training is the same as without them."""


def refuse_boolean(settings: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """Return a value, but refuse a boolean for a number. Pydantic and YAML would make 1 of `trials: true`.

    It is the body of a validator of all fields, before pydantic's own.

    Raises:
        ValueError: If the field is a number and the value is a boolean.
    """
    annotation = settings.model_fields[str(info.field_name)].annotation
    kinds = {annotation, *get_args(annotation)}
    if isinstance(value, bool) and bool not in kinds and {int, float} & kinds:
        raise ValueError(f"expected a number, not {str(value).lower()}")
    return value


class Recipe(BaseModel):
    """The settings with which a plan is trained. They are immutable and part of a run's identity.

    The default recipe of a task is `task.recipe`.

    Example:
        >>> Recipe(epochs=5).with_settings({"learning_rate": "1e-3", "schedule": "cosine"}).learning_rate
        0.001
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[int, Field(ge=1, le=1_000_000, description="number of passes over the training split")] = 10
    batch_size: Annotated[
        int,
        Field(
            ge=2,
            le=1_000_000,
            description="number of items in a batch; the last batch of an epoch can be smaller",
        ),
    ] = 32
    accumulation: Annotated[
        int, Field(ge=1, description="number of batches whose gradients are averaged for one optimiser step")
    ] = 1
    optimizer: Annotated[str, Field(description="a name of timm.optim.list_optimizers()")] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, description="the highest learning rate of the schedule")] = 1e-3
    weight_decay: Annotated[
        float, Field(ge=0, description="weight decay of weights; biases, norms and gates have none")
    ] = 0.01
    schedule: Annotated[
        Literal["onecycle", "cosine", "constant"], Field(description="change of the learning rate from step to step")
    ] = "onecycle"
    warmup: Annotated[
        float | None,
        Field(
            ge=0,
            lt=1,
            description="share of all steps in which the learning rate rises; by default 0.3 for onecycle, else 0",
        ),
    ] = None
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="share of the target that is spread over all classes (classification)")
    ] = 0.0
    mixup: Annotated[float, Field(ge=0, description="alpha of timm's Mixup; 0 is off (classification)")] = 0.0
    cutmix: Annotated[
        float,
        Field(
            ge=0, description="alpha of CutMix; together with mixup, each batch uses one of the two (classification)"
        ),
    ] = 0.0
    augmentation: Annotated[
        Augmentation,
        Field(
            description="flip: left-right flip; crop: flip and shift by up to 1/8 of the side; randaug: flip and "
            "RandAugment"
        ),
    ] = "none"
    amp: Annotated[
        Literal["none", "bfloat16", "float16"],
        Field(description="autocast; bf16 and fp16 are accepted too; float16 needs a CUDA device"),
    ] = "none"
    clip_grad: Annotated[
        float,
        Field(
            ge=0,
            description="largest gradient norm; 0: that of the head, as 0.1 of detr, or off if it has none",
        ),
    ] = 0.0
    patience: Annotated[
        int,
        Field(
            ge=0,
            description="stop after this number of epochs without a better validation metric, and keep the best "
            "weights; 0 is off",
        ),
    ] = 0
    validate_every: Annotated[
        int, Field(ge=0, description="number of epochs between validations; 0: only after the last epoch")
    ] = 0
    ema: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="decay of a moving average of the weights (timm's ModelEmaV3 with warm-up), which is validated "
            "and kept; 0 is off",
        ),
    ] = 0.0
    layer_decay: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="factor of the learning rate from one layer to the layer below; an inserted module has the "
            "rate of the block that it follows; 1 is off (timm models)",
        ),
    ] = 1.0
    drop_path: Annotated[
        float, Field(ge=0, lt=1, description="highest rate of stochastic depth in the backbone (timm models); 0 is off")
    ] = 0.0
    grad_checkpointing: Annotated[
        bool,
        Field(
            description="compute activations again in the backward pass, which needs less memory (timm models); "
            "batch norms still update once a step, but the codebook of vector_quantise twice"
        ),
    ] = False
    channels_last: Annotated[bool, Field(description="store images and weights with the channels last")] = False
    compile: Annotated[bool, Field(description="compile the model with torch.compile")] = False

    @field_validator("amp", mode="before")
    @classmethod
    def _short_amp(cls, value: Any) -> Any:
        return {"bf16": "bfloat16", "fp16": "float16"}.get(value, value) if isinstance(value, str) else value

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        return refuse_boolean(cls, value, info)

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        if name not in timm_names("optimizers"):
            raise ValueError(str(UnknownNameError("optimizer", name, timm_names("optimizers"))))
        return name

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """Return a copy of the recipe with some settings changed.

        Args:
            settings: The new values, by field name. A text such as "3e-3" or "none" is converted.

        Raises:
            UnknownNameError: If a setting does not exist.
            InputError: If a value is not allowed. The message says what is allowed.
        """
        fields = type(self).model_fields
        for key in settings:
            if key not in fields:
                raise UnknownNameError("training setting", key, fields)
        # The text "none" means None only if None is the default. For `amp` and `augmentation`, "none" is itself a
        # value.
        none = {k: None for k, v in settings.items() if v == "none" and fields[k].default is None}
        try:
            return type(self)(**{**self.model_dump(), **settings, **none})
        except ValidationError as error:
            raise InputError(_describe(error, fields)) from None

    def recorded(self, usual: Recipe) -> dict[str, Any]:
        """Return the settings as data for JSON, as a run records them in its identity.

        A setting that came later is left out at its default, so that the identity of older runs stays.

        Args:
            usual: The recipe of the task. A setting that differs from it is never left out.
        """
        given, before = self.model_dump(mode="json"), usual.model_dump(mode="json")
        fields = type(self).model_fields
        return {
            key: value
            for key, value in given.items()
            if key not in _NEW or value != fields[key].default or value != before[key]
        }

    def with_text(self, *pairs: str) -> Recipe:
        """Return a copy of the recipe, changed by texts of the form "key=value".

        Raises:
            UnknownNameError: If a setting does not exist.
            InputError: If a text has no "=", or a value is not allowed.
        """
        for pair in pairs:
            if "=" not in pair:
                raise InputError(f"{pair!r} is not a setting; write key=value, for instance epochs=5")
        return self.with_settings({k.strip(): v.strip() for k, _, v in (p.partition("=") for p in pairs)})


def choices_of(about: FieldInfo) -> list[str]:
    """Return the names from which the value of a setting is chosen. Empty for a setting that takes other values."""
    kinds = (about.annotation, *get_args(about.annotation))  # the type of a choice that can be None is a union
    return [str(value) for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]


def fault_of(fault: Mapping[str, Any], about: FieldInfo) -> str:
    """Return what is wrong with the value of a setting: what was expected, or the message of its validator.

    Args:
        fault: One of `ValidationError.errors()`.
        about: The setting.
    """
    if fault["type"] == "value_error":
        return fault["msg"].removeprefix("Value error, ")  # pydantic's mark of an error that a validator raised
    kinds = {about.annotation, *get_args(about.annotation)}
    if bool in kinds:
        return "expected true or false"
    if fault["type"] == "finite_number":
        return "expected a finite number"
    if number := next((kind for kind in (int, float) if kind in kinds), None):
        return f"expected {_range_text(number, about)}"
    if any(get_origin(kind) is dict for kind in kinds) and fault["type"] == "dict_type":
        return "expected a mapping of names to values"
    if fault["type"] in ("tuple_type", "list_type"):
        return "expected a list, or one text with commas"
    return "expected text" if fault["type"] == "string_type" else fault["msg"]


def _range_text(number: type, about: FieldInfo) -> str:
    names = {"least": "ge", "most": "le", "above": "gt", "below": "lt"}
    limits = {
        word: getattr(limit, name) for word, name in names.items() for limit in about.metadata if hasattr(limit, name)
    }
    return number_text(number, **limits)


def _describe(error: ValidationError, fields: Mapping[str, FieldInfo]) -> str:
    """Return one line that gives, for each error, the setting, the given value, and what is allowed."""
    lines = []
    for fault in error.errors():
        name = str(fault["loc"][0])
        about = fields[name]
        if fault["type"] == "literal_error":
            lines.append(str(UnknownNameError(name, str(fault["input"]), choices_of(about))))
        else:
            lines.append(f"training setting {name}={fault['input']!r}: {fault_of(fault, about)} ({about.description})")
    return "; ".join(lines)
