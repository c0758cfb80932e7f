"""A host as an encoder: the features at one place of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from nasbench.backbones import Slot
from nasbench.backbones.hooks import SlotHook
from nasbench.backbones.insertion import host_of, plugins_of, slots_of
from nasbench.backbones.layout import MapFormat
from nasbench.backbones.tracing import BATCH, meta_copy
from nasbench.errors import UnsupportedError
from nasbench.ops.pretext import Form
from nasbench.training.optimisation import as_float, aux_loss

__all__ = ["HostEncoder", "encoder_of", "pooled_encoder", "width_of"]

_INPUT_LAYER = "embed"
"""Name of the slot after the input layer of a host for series."""


@dataclass(frozen=True)
class _Place:
    """A place in a host where features are read.

    Attributes:
        path: Path of the module.
        before: Whether its input is read, and not its output.
        index: Index of the map in the tuple that the module returns. None if it returns the map itself.
        form: Layout of the map. None if the tensor is `(B, C)` already.
        pooled: Whether the mean over all positions is taken.
    """

    path: str
    before: bool = False
    index: int | None = None
    form: MapFormat | None = None
    pooled: bool = False

    def read(self, value: Any, image: tuple[int, ...] | None) -> Tensor:
        """Return the features in what the module got or returned."""
        found = value if self.index is None else value[self.index]
        if self.form is None:
            return found
        order = None if self.form.order is None else torch.tensor(self.form.order, device=found.device)
        inner = self.form.split(found, order, image)[0]
        return inner.flatten(2).mean(2) if self.pooled else inner


class HostEncoder(nn.Module):
    """A model that returns features of its host.

    Args:
        model: The model, with its plan.
        place: Where the features are read.
        input_layer: Path of the input layer, after which steps are hidden. "" if they are hidden in the input.

    Attributes:
        aux: The auxiliary losses of the modules, one for each run in training since `clear`.
    """

    def __init__(self, model: nn.Module, place: _Place, input_layer: str = "") -> None:
        super().__init__()
        self.model, self.place, self.input_layer = model, place, input_layer
        self.aux: list[Tensor | float] = []

    def forward(self, x: Tensor, hide: Tensor | None = None) -> Tensor:
        """Return features of inputs in float32, as `nasbench.ops.pretext.Form` says.

        Args:
            x: Images `(B, 3, H, W)` or series `(B, L, D)`.
            hide: Which steps of series are hidden, `(B, L)`.
        """
        found: list[Tensor] = []
        image = tuple(x.shape[2:]) if x.ndim == 4 else None
        host = host_of(self.model)
        # The hooks are there during this call alone, so that the model can be copied, exported and stored as it is.
        handles = [_watch(host.get_submodule(self.place.path), self.place, image, found)]
        if hide is not None and self.input_layer:
            handles.append(host.get_submodule(self.input_layer).register_forward_hook(_hider(hide), prepend=True))
        elif hide is not None:
            x = x.masked_fill(hide.unsqueeze(-1) & ~x.isnan(), 0.0)
        try:
            self.model(x)
        finally:
            for handle in handles:
                handle.remove()
        if self.training and torch.is_grad_enabled():
            self.aux.append(aux_loss(self.model))
        return as_float(found[-1])

    def runs_at(self, size: tuple[int, ...]) -> bool:
        """Return whether the host runs on inputs of another size. Nothing is computed."""
        return _features_at(self, size) is not None

    def take_aux(self) -> Tensor | float:
        """Return the mean of the auxiliary losses of all runs since the last call."""
        losses, self.aux = self.aux, []
        return sum(losses, 0.0) / len(losses) if losses else 0.0


class MapEncoder(HostEncoder):
    """A model that returns the map after each stage of its host.

    Args:
        model: The model, with its plan.
        places: Where the maps are, in network order.
    """

    def __init__(self, model: nn.Module, places: Sequence[_Place]) -> None:
        super().__init__(model, places[-1])
        self.places = tuple(places)

    def forward(self, x: Tensor, *, add: list[Tensor] | None = None) -> list[Tensor]:  # type: ignore[override]
        """Return the maps `(B, Ck, Hk, Wk)` of images, in float32.

        Args:
            x: Images `(B, 3, H, W)`.
            add: A vector for each stage, `(B, Ck)`, that is added to all positions of its map before it is read.
        """
        found: list[Tensor] = []
        host, image, handles = host_of(self.model), tuple(x.shape[2:]), []
        for number, place in enumerate(self.places):
            module = host.get_submodule(place.path)
            if add is not None:
                adder = SlotHook(_Adder(place, add[number], image), place.index)
                handles.append(module.register_forward_hook(adder))
            if place is not self.place:
                handles.append(_watch(module, place, image, found))
        try:
            last = super().forward(x)
        finally:
            for handle in handles:
                handle.remove()
        return [as_float(each) for each in (*found, last)]


class _Adder(nn.Module):
    """Adds a vector to all positions of a map in the layout of the host."""

    def __init__(self, place: _Place, vector: Tensor, image: tuple[int, ...]) -> None:
        super().__init__()
        self.place, self.vector, self.image = place, vector, image

    def forward(self, x: Tensor) -> Tensor:
        form = self.place.form
        assert form is not None
        order = None if form.order is None else torch.tensor(form.order, device=x.device)
        inner, prefix = form.split(x, order, self.image)
        sums = inner + self.vector[..., None, None].to(inner.dtype)
        return form.join(sums, prefix, None if order is None else order.argsort())


class PatchEncoder(HostEncoder):
    """A model that returns the tokens of its host, a plain vision transformer of timm, after its last norm.

    Attributes:
        grid: Rows and columns of patches.
        patch: Height and width of a patch in pixels.
        prefix: Number of tokens before the patches.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, _Place("norm"))
        host: Any = host_of(model)
        self.grid, self.patch = tuple(host.patch_embed.grid_size), tuple(host.patch_embed.patch_size)
        self.prefix = int(host.num_prefix_tokens)

    @property
    def positions(self) -> nn.Parameter | None:
        """The parameter of the host's positions, `(1, P + N, C)` or `(1, N, C)`. None if it has no such parameter."""
        return host_of(self.model).pos_embed  # type: ignore[return-value]

    def forward(self, x: Tensor, *, keep: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the tokens `(B, C, P + N)` of images, in float32.

        Args:
            x: Images `(B, 3, H, W)`.
            keep: Numbers of the patches that the blocks get, in their order, `(B, n)`. The result has n patches.
        """
        if keep is None:
            return super().forward(x).transpose(1, 2)

        def removed(module: nn.Module, args: Any, tokens: Tensor) -> Tensor:
            prefix, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
            index = keep.unsqueeze(-1).expand(-1, -1, patches.shape[2])
            return torch.cat([prefix, patches.gather(1, index)], dim=1)

        handle = host_of(self.model).get_submodule("patch_drop").register_forward_hook(removed)
        try:
            return super().forward(x).transpose(1, 2)
        finally:
            handle.remove()


def _watch(module: nn.Module, place: _Place, image: tuple[int, ...] | None, found: list[Tensor]) -> Any:
    if place.before:
        return module.register_forward_pre_hook(lambda _, args: found.append(place.read(args[0], image)))
    # Registered last, so it runs after the plug-in in this slot.
    return module.register_forward_hook(lambda _, args, output: found.append(place.read(output, image)))


def _hider(hide: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """Return a hook that sets the hidden steps of an output `(B, L, C)` to zero."""
    return lambda _, args, output: output.masked_fill(hide.unsqueeze(-1), 0.0)


def pooled_encoder(model: nn.Module, input_size: Sequence[int]) -> HostEncoder:
    """Return the encoder of pooled features `(B, C)`: what the classifier gets.

    If the host has no single linear layer as its last one, it is the mean over all positions of the last map.
    """
    path = _classifier(model, input_size)
    if path is not None:
        return HostEncoder(model, _Place(path, before=True))
    slot = _last_slot(model)
    if slot is None:
        raise UnsupportedError("the host has neither a linear classifier nor a slot, so it has no features to read")
    return HostEncoder(model, _Place(slot.module, index=slot.index, form=slot.format, pooled=True))


def encoder_of(model: nn.Module, form: Form, input_size: Sequence[int]) -> HostEncoder:
    """Return the encoder of a model in the form that a pretext needs.

    Raises:
        UnsupportedError: If the host has no such features.
    """
    if form in ("pooled", "segments"):
        encoder = pooled_encoder(model, input_size)
        if form == "segments":
            part = _features_at(encoder, (max(1, input_size[0] // 4), *input_size[1:]))
            if part is None or len(part) != BATCH:
                raise UnsupportedError("it needs a host that runs on parts of a series, and the host has one length")
        return encoder
    if form == "maps":
        return _map_encoder(model)
    if form == "patches":
        return _patch_encoder(model)
    slot = _last_slot(model)
    size = "no map" if slot is None else f"{slot.layout} maps of size {'x'.join(map(str, slot.size))}"
    if form == "tokens":
        if slot is None or slot.layout != "NLC" or len(input_size) != 2:
            raise UnsupportedError(f"it needs a transformer with tokens in one dimension, and the host has {size}")
        return HostEncoder(model, _Place(slot.module, index=slot.index, form=slot.format))
    if slot is None or slot.size != (input_size[0],):
        raise UnsupportedError(f"it needs one vector for each of {input_size[0]} time steps, and the host has {size}")
    inside = next((s for s in slots_of(model) if s.name == _INPUT_LAYER and s.size == slot.size), None)
    path = inside.module if inside is not None and inside.layout == "NLC" else ""
    encoder = HostEncoder(model, _Place(slot.module, index=slot.index, form=slot.format), path)
    shorter = max(2, input_size[0] // 2)
    if _length(encoder, (shorter, *input_size[1:])) != shorter:
        raise UnsupportedError("it needs one vector for each time step of a series of any length, and the host has not")
    return encoder


def _map_encoder(model: nn.Module) -> MapEncoder:
    stages = [slot for slot in _stages(model) if len(slot.size) == 2 and not slot.rows_are_series]
    if not stages:
        raise UnsupportedError("it needs the map of an image after each stage, and the host has no such maps")
    return MapEncoder(model, [_Place(slot.module, index=slot.index, form=slot.format) for slot in stages])


def _patch_encoder(model: nn.Module) -> PatchEncoder:
    host = host_of(model)
    # Subclasses can have paths of their own in which patches are not removed.
    if type(host) is not VisionTransformer or not isinstance(host.patch_embed, PatchEmbed):
        raise UnsupportedError(
            "it needs a plain vision transformer, whose patches can be removed, and the host is none"
        )
    filled = plugins_of(model)
    flat = [slot.name for slot in slots_of(model) if slot.name in filled and len(slot.size) != 1]
    if flat:
        raise UnsupportedError(
            f"the patches that are left are a sequence, and the module in {', '.join(flat)} gets a grid of patches; "
            "set the host's attribute `sequence_slots` to True before a plan is inserted"
        )
    return PatchEncoder(model)


def _features_at(encoder: HostEncoder, size: Sequence[int]) -> Any:
    """Return features of inputs of another size on the meta device. None if the host does not run at this size."""
    try:
        with torch.no_grad(), torch.device("meta"):
            return meta_copy(encoder)(torch.zeros(BATCH, *size))
    except Exception:  # a host for one size can raise anything
        return None


def _length(encoder: HostEncoder, size: Sequence[int]) -> int | None:
    """Return the number of vectors of an item of another size. None if the host does not run at this size."""
    features = _features_at(encoder, size)
    return features.shape[2] if features is not None and features.ndim == 3 and len(features) == BATCH else None


def width_of(encoder: HostEncoder, input_size: Sequence[int]) -> int | list[int]:
    """Return the width C of the features of an encoder, or those of all its maps. Nothing is computed."""
    with torch.no_grad(), torch.device("meta"):
        features = meta_copy(encoder).eval()(torch.zeros(BATCH, *input_size))
    return [int(each.shape[1]) for each in features] if isinstance(features, list) else int(features.shape[1])


def _last_slot(model: nn.Module) -> Slot | None:
    """Return the slot of the last stage, or the last slot of a host without stages. None if there is none."""
    found = _stages(model) or list(slots_of(model))
    return found[-1] if found else None


def _stages(model: nn.Module) -> list[Slot]:
    return [slot for slot in slots_of(model) if slot.name.startswith("stage") and "." not in slot.name]


def _classifier(model: nn.Module, input_size: Sequence[int]) -> str | None:
    """Return the path in the host of the one linear layer that makes its output from one vector an item, or None."""
    host = meta_copy(host_of(model)).eval()
    seen: list[tuple[str, int, bool]] = []

    def watch(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def look(module: nn.Module, args: Any, output: Tensor) -> None:
            seen.append((path, output.numel(), args[0].ndim == 2 and len(args[0]) == BATCH))

        return look

    for path, module in host.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(watch(path))
    with torch.no_grad(), torch.device("meta"):
        output = host(torch.zeros(BATCH, *input_size))
    if not isinstance(output, Tensor):
        return None
    # A layer whose output is as large as that of the host makes it. Two such layers are no single classifier.
    fitting = [(path, plain) for path, count, plain in seen if count == output.numel()]
    return fitting[0][0] if len(fitting) == 1 and fitting[0][1] and fitting[0][0] == seen[-1][0] else None
