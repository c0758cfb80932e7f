"""The contract of a head: what it does with a pyramid, with targets, and with its own output.

Every check is a function of a `HeadCandidate`. It returns "" if the head passes, and otherwise the fault in one line.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from nasbench.errors import UnsupportedError
from nasbench.library.modules import create_head
from nasbench.library.registry import ModuleSpec
from nasbench.ops.detection import MOST_DETECTIONS
from nasbench.ops.segmentation import VOID
from nasbench.testing._candidate import seeded
from nasbench.testing._probes import equal, redraw, trained

__all__ = ["HEAD_CHECKS", "HeadCandidate", "head_candidates"]

_SIZE = (64, 96)  # height and width in pixels, multiples of the coarsest stride
_ODD_SIZES = ((53, 75), (33, 32), (96, 40))  # the last is longer than wide
_STRIDES = (8, 16, 32)
_CHANNELS = (24, 32, 48)
_CLASSES = 5
_COUNTS = {"segmentation": _CLASSES, "point_segmentation": 2}  # class numbers of a mask
_SCALE = 2  # of super-resolution
_BATCH = 3
_STEPS, _RATE = 12, 1e-3  # of the optimiser that must lower the loss


@dataclass(frozen=True)
class HeadCandidate:
    """A head with fixed hyper-parameters for one kind of task.

    Attributes:
        spec: The head's declaration.
        task: The kind of task, one of `nasbench.library.registry.HEAD_TASKS`.
        hyper: Hyper-parameters that differ from the defaults.
        channels: Number of channels of each level, fine to coarse.
        strides: Stride of each level in pixels.
    """

    spec: ModuleSpec
    task: str
    hyper: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[int, ...] = _CHANNELS
    strides: tuple[int, ...] = _STRIDES

    def __str__(self) -> str:
        return f"{self.spec.name}({self.variant})"

    @property
    def variant(self) -> str:
        """A description of the variant: "segmentation, channels 24, 32, 48"."""
        words = [self.task, f"channels {', '.join(map(str, self.channels))}"]
        return ", ".join(words + [f"{key}={value!r}" for key, value in self.hyper.items()])

    def build(self) -> Any:
        """Return a new instance of the head: an `nn.Module` with the methods `loss` and `decode`."""
        known = {"scale": _SCALE} if self.task == "super-resolution" else {"num_classes": _CLASSES}
        return create_head(self.spec.name, self.channels, strides=self.strides, **known, **dict(self.hyper))

    def shapes(self, batch: int = _BATCH, size: Sequence[int] = _SIZE) -> list[tuple[int, ...]]:
        """Return the shape of each map, and last the shape of the images. Sides of maps are rounded up."""
        levels = zip(self.channels, self.strides, strict=True)
        return [(batch, c, *(-(-side // stride) for side in size)) for c, stride in levels] + [(batch, 3, *size)]

    def batch(self, batch: int = _BATCH, size: Sequence[int] = _SIZE, seed: int = 0) -> tuple[list[Tensor], Any]:
        """Return the maps of a pyramid and the inputs, with standard normal values."""
        draw = torch.Generator().manual_seed(seed)
        *maps, images = [torch.randn(shape, generator=draw) for shape in self.shapes(batch, size)]
        return maps, self.inputs(images)

    def inputs(self, images: Tensor) -> Any:
        """Return what the task gives besides the maps: the images, and for a point task the points too."""
        if self.task != "point_segmentation":
            return images
        middle = images.new_tensor([images.shape[3] / 2, images.shape[2] / 2])
        return {"image": images, "point": middle.expand(len(images), -1)}

    def targets(self, batch: int = _BATCH, size: Sequence[int] = _SIZE, *, empty: bool = False) -> Any:
        """Return targets of the task. If `empty`, no pixel has a label, and no image has an object.

        In super-resolution every pixel has a value.
        """
        draw = torch.Generator().manual_seed(1)
        if self.task == "super-resolution":
            return torch.rand((batch, 3, *(_SCALE * side for side in size)), generator=draw)
        if self.task == "classification":
            return torch.randint(_CLASSES, (batch,), generator=draw)
        if self.task in ("segmentation", "point_segmentation"):
            mask = torch.randint(_COUNTS[self.task], (batch, *size), generator=draw)
            mask[torch.rand(mask.shape, generator=draw) < (1.0 if empty else 0.2)] = VOID
            return mask
        # the last image of a batch has no object
        counts = [0 if empty or (image and image == batch - 1) else image + 1 for image in range(batch)]
        return [_objects(count, size, draw) for count in counts]


def head_candidates(spec: ModuleSpec, hyper: Mapping[str, Any] | None = None) -> list[HeadCandidate]:
    """Return a head once for each kind of task that it serves."""
    strides = {"super-resolution": (1, 2, 4)}
    return [HeadCandidate(spec, task, hyper or {}, strides=strides.get(task, _STRIDES)) for task in spec.tasks]


def _objects(count: int, size: Sequence[int], draw: torch.Generator) -> dict[str, Tensor]:
    """Return objects of at least 8 pixels a side, inside the image."""
    whole = torch.tensor([size[1], size[0]])
    sides = 8 + torch.rand(count, 2, generator=draw) * (whole / 2 - 8)
    corner = torch.rand(count, 2, generator=draw) * (whole - sides)
    labels = torch.randint(_CLASSES, (count,), generator=draw)
    return {"boxes": torch.cat([corner, corner + sides], dim=1), "labels": labels}


# -- the checks --------------------------------------------------------------------------------------------------------


def decodes_what_the_task_needs(candidate: HeadCandidate) -> str:
    """For images of every size, the loss is one finite number, and the decoded output is what the metric takes."""
    head = candidate.build()
    for size in (_SIZE, *_ODD_SIZES):
        maps, inputs = candidate.batch(size=size)
        for mode in (True, False):
            with torch.no_grad():
                raw = head.train(mode)(maps, inputs)
                loss = head.loss(raw, candidate.targets(size=size))
                decoded = head.decode(raw, [tuple(size)] * _BATCH)
            if loss.shape or not loss.isfinite():
                return f"the loss of images of {size} is {loss.tolist()}, expected one finite number"
            fault = _FAULTS[candidate.task](decoded, size)
            if fault:
                return f"images of {size}: {fault}"
    return ""


def serves_nothing_to_learn(candidate: HeadCandidate) -> str:
    """Where no pixel has a label or no image has an object, the loss and every gradient are finite."""
    head = candidate.build().train()
    loss = head.loss(head(*candidate.batch()), candidate.targets(empty=True))
    if not loss.isfinite():
        return f"the loss is {loss.item()}"
    loss.backward()
    return _infinite(head)


def gives_gradients(candidate: HeadCandidate) -> str:
    """The loss depends on every parameter and on at least one level, and every gradient is finite.

    A gradient of zero passes: DETR's first queries have no content, so the weights that read it get none.
    """
    head = candidate.build().train()
    redraw(head)
    maps, inputs = candidate.batch()
    head.loss(head([x.requires_grad_() for x in maps], inputs), candidate.targets()).backward()
    if all(x.grad is None or not x.grad.any() for x in maps):
        return "no gradient reaches any level"
    without = [name for name, p in trained(head).items() if p.grad is None]
    return f"no gradient reaches {', '.join(without)}" if without else _infinite(head)


def learns_one_batch(candidate: HeadCandidate) -> str:
    """A few steps of Adam on one batch lower its loss."""
    head, (maps, inputs), targets = candidate.build().train(), candidate.batch(), candidate.targets()
    optimiser = torch.optim.Adam(head.parameters(), _RATE)
    losses = []
    for _ in range(_STEPS + 1):
        loss = head.loss(head(maps, inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return "" if losses[-1] < losses[0] else f"the loss of one batch went from {losses[0]:.3g} to {losses[-1]:.3g}"


def round_trips_state(candidate: HeadCandidate) -> str:
    """A second instance computes the same as the first after it has loaded the first's state dict."""
    first, second = candidate.build(), candidate.build()
    redraw(first)
    before = list(first.state_dict())
    first.train()(*candidate.batch())
    if list(first.state_dict()) != before:
        return f"forward changes the state dict's keys: {sorted(set(before) ^ set(first.state_dict()))}"
    second.load_state_dict(first.state_dict())
    return "" if _same(candidate, first, second) else "computes a different result after a state dict round trip"


def copies_and_pickles(candidate: HeadCandidate) -> str:
    """`copy.deepcopy` and pickle give a head that computes the same, also after a step of training."""
    head = candidate.build().train()
    head.loss(head(*candidate.batch()), candidate.targets())
    for word, twin in (("copy.deepcopy", copy.deepcopy(head)), ("pickling", pickle.loads(pickle.dumps(head)))):
        if not _same(candidate, head, twin):
            return f"computes a different result after {word}"
    return ""


def is_deterministic(candidate: HeadCandidate) -> str:
    """The same seed gives the same output and the same loss. Evaluation gives the same result again."""
    results, losses = [], []
    for _ in range(2):
        with seeded(7), torch.no_grad():
            head = candidate.build().train()
            raw = head(*candidate.batch())
            results.append(_tensors(raw))
            losses.append(head.loss(raw, candidate.targets()))
    if not equal(*results) or not torch.equal(*losses):
        return "the same seed gives two results"
    return "" if _same(candidate, head, head) else "two evaluations of one input differ"


def keeps_images_apart(candidate: HeadCandidate) -> str:
    """In evaluation, the output for an image does not depend on the other images of the batch.

    Every tensor of the raw output has the batch as its first axis.
    """
    head = candidate.build().double().eval()
    maps, inputs = candidate.batch()
    with torch.no_grad():
        whole, alone = (
            _tensors(head(*tree_map(lambda x: x[:count].double(), (maps, inputs))))  # noqa: B023  (used at once)
            for count in (_BATCH, 1)
        )
    short = [tuple(x.shape) for x in whole if not x.ndim or len(x) != _BATCH]
    if short:
        return f"a tensor of the raw output of {_BATCH} images has the shape {short[0]}"
    same = all(torch.allclose(x[:1], y, rtol=1e-6, atol=1e-9) for x, y in zip(whole, alone, strict=True))
    return "" if same else "an image in a batch gives another output than the same image alone"


def leaves_maps_alone(candidate: HeadCandidate) -> str:
    """Maps, images and targets are not modified."""
    head, (maps, inputs), targets = candidate.build(), candidate.batch(), candidate.targets()
    before = [x.clone() for x in _tensors([maps, inputs, targets])]
    with torch.no_grad():
        raw = head.train()(maps, inputs)
        head.loss(raw, targets)
        head.decode(raw, [_SIZE] * _BATCH)
    return "" if equal(_tensors([maps, inputs, targets]), before) else "maps, images or targets are modified"


def works_under_autocast(candidate: HeadCandidate) -> str:
    """A training step under bfloat16 autocast runs, and its loss and gradients are finite."""
    head = candidate.build().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = head(*candidate.batch())
        loss = head.loss(raw, candidate.targets())
    if not loss.isfinite():
        return f"the loss is {loss.item()}"
    loss.float().backward()
    return _infinite(head)


def works_on_meta(candidate: HeadCandidate) -> str:
    """The head can be built and run on the meta device, where costs are counted."""
    with torch.device("meta"), torch.no_grad():
        head = candidate.build().eval()
        *maps, images = [torch.empty(shape) for shape in candidate.shapes()]
        raw = head(maps, candidate.inputs(images))
    return "" if all(x.is_meta for x in _tensors(raw)) else "a result is not on the meta device"


def serves_levels_or_says_so(candidate: HeadCandidate) -> str:
    """With one or two levels of few channels, the head works or raises an `UnsupportedError` that `limits` explains."""
    for channels, strides in (((1, 3), (4, 8)), ((20,), (16,)), ((8, 8), (16, 32)), ((7,), (1,))):
        other = HeadCandidate(candidate.spec, candidate.task, candidate.hyper, channels, strides)
        try:
            head = other.build().eval()
        except UnsupportedError as error:
            if not candidate.spec.limits:
                return f"channels {channels} at strides {strides} are not supported ({error}), but `limits` is empty"
            continue
        with torch.no_grad():
            decoded = head.decode(head(*other.batch()), [_SIZE] * _BATCH)
        if fault := _FAULTS[candidate.task](decoded, _SIZE):
            return f"channels {channels} at strides {strides}: {fault}"
    return ""


HEAD_CHECKS: tuple[Callable[[HeadCandidate], str], ...] = (
    decodes_what_the_task_needs,
    serves_levels_or_says_so,
    serves_nothing_to_learn,
    gives_gradients,
    learns_one_batch,
    round_trips_state,
    copies_and_pickles,
    is_deterministic,
    keeps_images_apart,
    leaves_maps_alone,
    works_under_autocast,
    works_on_meta,
)
"""All checks of a head, in the order in which they run."""


# -- what they share ---------------------------------------------------------------------------------------------------


def _tensors(nested: Any) -> list[Tensor]:
    return list(_walk(nested))


def _walk(nested: Any) -> Iterator[Tensor]:
    """Yield the tensors of dicts, lists and tuples at any depth, in a fixed order."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, Mapping):
        for key in sorted(nested):
            yield from _walk(nested[key])
    elif isinstance(nested, (list, tuple)):
        for each in nested:
            yield from _walk(each)


def _same(candidate: HeadCandidate, first: nn.Module, second: nn.Module) -> bool:
    with torch.no_grad():
        return equal(*(_tensors(head.eval()(*candidate.batch())) for head in (first, second)))


def _infinite(head: nn.Module) -> str:
    names = [name for name, p in trained(head).items() if p.grad is not None and not p.grad.isfinite().all()]
    return f"gradient of {', '.join(names)} is not finite" if names else ""


def _class_fault(decoded: Any, size: Sequence[int]) -> str:
    if not isinstance(decoded, Tensor) or tuple(decoded.shape) != (_BATCH, _CLASSES):
        return f"decode gives {_shape(decoded)}, expected logits ({_BATCH}, {_CLASSES})"
    return "" if decoded.isfinite().all() else "a logit is not finite"


def _mask_fault(decoded: Any, size: Sequence[int], classes: int = _CLASSES) -> str:
    if not isinstance(decoded, Tensor) or decoded.dtype.is_floating_point or decoded.shape != (_BATCH, *size):
        return f"decode gives {_shape(decoded)}, expected class numbers ({_BATCH}, {size[0]}, {size[1]})"
    return "" if 0 <= int(decoded.min()) <= int(decoded.max()) < classes else "a class number is out of range"


def _boxes_fault(decoded: Any, size: Sequence[int]) -> str:
    if not isinstance(decoded, list) or len(decoded) != _BATCH:
        return f"decode gives {_shape(decoded)}, expected a list of {_BATCH} dicts"
    for each in decoded:
        if not isinstance(each, dict) or not {"boxes", "scores", "labels"} <= set(each):
            return "decode must give a dict with boxes, scores and labels for each image"
        count = len(each["scores"])
        if tuple(each["boxes"].shape) != (count, 4) or tuple(each["labels"].shape) != (count,):
            return f"{count} scores, but boxes {_shape(each['boxes'])} and labels {_shape(each['labels'])}"
        if count > MOST_DETECTIONS:
            return f"{count} detections of an image, allowed: {MOST_DETECTIONS}"
        outside = (each["boxes"] < 0).any() or (each["boxes"][:, 0::2] > size[1]).any()
        if outside or (each["boxes"][:, 1::2] > size[0]).any() or not each["boxes"].isfinite().all():
            return "a box lies outside the image"
        if count and not 0 <= int(each["labels"].min()) <= int(each["labels"].max()) < _CLASSES:
            return "a class number is out of range"
        if not math.isfinite(float(each["scores"].sum())):
            return "a score is not finite"
    return ""


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _image_fault(decoded: Any, size: Sequence[int]) -> str:
    wanted = (3, *(_SCALE * side for side in size))
    if not isinstance(decoded, list) or len(decoded) != _BATCH:
        return f"decode gives {_shape(decoded)}, expected a list of {_BATCH} images"
    if any(not isinstance(each, Tensor) or each.dtype != torch.uint8 or each.shape != wanted for each in decoded):
        return f"decode gives {', '.join(map(_shape, decoded))}, expected bytes {wanted}"
    return ""


def _object_fault(decoded: Any, size: Sequence[int]) -> str:
    return _mask_fault(decoded, size, _COUNTS["point_segmentation"])


_FAULTS = {
    "classification": _class_fault,
    "segmentation": _mask_fault,
    "point_segmentation": _object_fault,
    "detection": _boxes_fault,
    "super-resolution": _image_fault,
}
"""For each kind of task, what is wrong with a decoded output for images of a size."""
