"""timm's own attention layers as `timm/<name>`: those of `timm.layers.create_attn` that need no fixed input size.

`.layer` is timm's layer itself, with its weights. A layer may differ from the module of the same name here: `timm/se`
rounds its width to a multiple of 8 and has biases. The two can then be compared. timm is imported when a layer is built
and not when this file is, so that listing the library stays fast.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.errors import UnsupportedError
from nasbench.library.registry import MODULES, register_module

UNSUPPORTED: Mapping[str, str] = {
    "timm/ge": "timm's GatherExcite raises in its own constructor (seen in 1.0.31: its MLP gets `act_layer` twice); "
    "`se` is gather-excite with a global extent",
    "timm/bottleneck": "timm's BottleneckAttn must know the size of the map when it is built, and a module here "
    "serves every size; take `self_attention`",
}
"""The layers of `create_attn` that are not offered, each with the reason and what to use instead."""


@dataclass(frozen=True)
class _Row:
    """The declaration of one layer.

    Attributes:
        name: timm's name of the layer.
        title: What the layer computes, in one line.
        paper: Source of the layer.
        properties: Declared properties.
        options: timm's keyword and timm's default of each hyper-parameter. timm gets the inverse of a `reduction`.
        space: Search values by hyper-parameter.
        cost_order: Exponent of the cost in the number of positions.
        limits: What the layer cannot serve, in words.
        identity: Whether the layer starts as an identity.
    """

    name: str
    title: str
    paper: str
    properties: tuple[str, ...] = ("globality",)
    options: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    space: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cost_order: int = 1
    limits: str = ""
    identity: bool = False


_SE = "Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507"
_ECA = "Wang et al., ECA-Net, CVPR 2020, arXiv:1910.03151"
_GC = "Cao et al., GCNet, ICCV workshop 2019, arXiv:1904.11492"
_CBAM = "Woo et al., CBAM, ECCV 2018, arXiv:1807.06521"
_COORD = "Hou et al., Coordinate Attention, CVPR 2021, arXiv:2103.02907"
_RATIOS = {"reduction": (4, 8, 16)}  # searched only where timm does not round the width to a multiple of 8
_BOTH = ("locality", "globality")


def _ratio(default: int) -> dict[str, tuple[str, int]]:
    return {"reduction": ("rd_ratio", default)}


LAYERS: tuple[_Row, ...] = (
    _Row("se", "Squeeze-and-excitation with biases and a width rounded to 8", _SE, options=_ratio(16)),
    _Row("ese", "Effective squeeze-and-excitation: one full layer, hard sigmoid",
         "Lee and Park, CenterMask, CVPR 2020, arXiv:1911.06667"),
    _Row("eca", "Efficient channel attention", _ECA),
    _Row("ecam", "Efficient channel attention with a hidden layer, timm's experiment", _ECA, options=_ratio(8)),
    _Row("ceca", "Efficient channel attention with circular padding", _ECA),
    _Row("gc", "Global context, fused by scaling", _GC, options=_ratio(8), space=_RATIOS),
    _Row("gca", "Global context, fused by addition", _GC, options=_ratio(8), space=_RATIOS),
    _Row("cbam", "Channel, then spatial attention", _CBAM, _BOTH,
         _ratio(16) | {"kernel": ("spatial_kernel_size", 7)}, _RATIOS),
    _Row("lcbam", "Channel, then spatial attention on summed poolings, timm's experiment", _CBAM, _BOTH,
         _ratio(16) | {"kernel": ("spatial_kernel_size", 7)}, _RATIOS),
    _Row("coord", "Coordinate attention", _COORD, options=_ratio(16)),
    _Row("scoord", "Coordinate attention with linear layers and no norm, timm's variant", _COORD, options=_ratio(4)),
    _Row("ela", "Efficient local attention: strips, depthwise convolutions",
         "Xu and Wan, ELA: Efficient Local Attention, 2024, arXiv:2403.01123", _BOTH, {"kernel": ("kernel_size", 7)}),
    _Row("strip", "Strip attention, the least of the kind, timm's variant", _COORD, _BOTH,
         {"kernel": ("kernel_size", 3)}),
    _Row("sk", "Selective kernels on a split input",
         "Li et al., Selective Kernel Networks, CVPR 2019, arXiv:1903.06586",
         ("locality", "multiscale"), _ratio(16), limits="even channel counts only"),
    _Row("splat", "Split attention of ResNeSt",
         "Zhang et al., ResNeSt, CVPR workshop 2022, arXiv:2004.08955", _BOTH, _ratio(4),
         limits="even channel counts only"),
    _Row("lambda", "Lambda layer: content and local position lambdas",
         "Bello, LambdaNetworks, ICLR 2021, arXiv:2102.08602", _BOTH, {"heads": ("num_heads", 4), "kernel": ("r", 9)},
         limits="channel counts that `heads` (4) divides"),
    _Row("halo", "Attention in blocks that see a halo of 3 around them",
         "Vaswani et al., Scaling Local Self-Attention, CVPR 2021, arXiv:2103.12731", ("locality",),
         {"heads": ("num_heads", 8), "window": ("block_size", 8)}, {"window": (4, 8)},
         limits="channel counts that `heads` (8) divides; maps are padded to multiples of `window` (8) and cropped"),
    _Row("nl", "Non-local block; its last norm starts at zero",
         "Wang et al., Non-local Neural Networks, CVPR 2018, arXiv:1711.07971",
         options=_ratio(8), cost_order=2, identity=True),
    _Row("bat", "Bilinear attentional transform",
         "Chi et al., Non-Local Neural Networks with Grouped Bilinear Attentional Transforms, CVPR 2020",
         options=_ratio(4) | {"window": ("block_size", 7)}, cost_order=2,
         limits="maps are padded to multiples of `window` (7) and cropped"),
)  # fmt: skip
"""The layers that are offered."""


class TimmLayer(nn.Module):
    """A layer of timm with the signature of a module: `(B, C, H, W) -> (B, C, H, W)`, any H and W.

    Args:
        row: The declaration of the layer.
        channels: Channels C.
        hyper: All of its hyper-parameters, by our names.

    Raises:
        UnsupportedError: If the layer cannot serve these values, or the installed timm lacks it.
    """

    def __init__(self, row: _Row, channels: int, hyper: Mapping[str, int]) -> None:
        super().__init__()
        self.window = hyper.get("window", 1)
        self.layer = _create(row, channels, hyper)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        if x.shape[0] == 0:  # timm reshapes with a side of -1, which torch cannot infer of nothing
            return x
        height, width = x.shape[2:]
        # timm's layers in windows serve only maps of whole windows.
        bottom, right = -height % self.window, -width % self.window
        if bottom == right == 0:
            return self.layer(x)
        return self.layer(F.pad(x, (0, right, 0, bottom)))[..., :height, :width]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert the weights, with a weight of rank 5 passed as one of rank 4.

        `channels_last` refuses rank 5, which `timm/lambda` has with a depth of 1.
        """
        return super()._apply(lambda t: fn(t[..., 0])[..., None] if t.ndim == 5 else fn(t), recurse)


def _create(row: _Row, channels: int, hyper: Mapping[str, int]) -> nn.Module:
    from timm.layers import create_attn

    given = {row.options[k][0]: 1 / v if k == "reduction" else v for k, v in hyper.items()}
    try:
        return create_attn(row.name, channels, **given)
    except (AssertionError, ValueError) as error:  # timm checks its limits by assert, mostly without a message
        served = row.limits or "every channel count, in versions of timm that have the layer"
        raise UnsupportedError(
            f"timm refuses {row.name!r} for {channels} channels with {dict(hyper)}"
            f"{': ' if str(error) else ''}{error}; it serves {served}"
        ) from error


def _wrapper(row: _Row) -> type[nn.Module]:
    """Return the class of a layer. Its signature shows the hyper-parameters, like that of a class written by hand."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", "channels")]
        + [inspect.Parameter(k, keyword, default=v, annotation="int") for k, (_, v) in row.options.items()]
    )

    def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: N807
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        self, channels, *hyper = bound.arguments.values()
        TimmLayer.__init__(self, row, channels, dict(zip(row.options, hyper, strict=True)))

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    name = f"Timm{row.name.capitalize()}"
    doc = f"{row.title}: timm's layer `{row.name}`.\n\nShapes: `(B, C, H, W) -> (B, C, H, W)`."
    members = {
        "__init__": __init__,
        "__doc__": doc,
        "__module__": __name__,
        "row": row,
    }  # an export writes the row down
    return type(name, (TimmLayer,), members)


for _row in LAYERS:
    _class = register_module(
        name=f"timm/{_row.name}",
        properties=_row.properties,
        paper=_row.paper,
        space=_row.space,
        ranges={key: "odd, at least 1" if key == "kernel" else "at least 1" for key in _row.options},
        dims=2,
        cost_order=_row.cost_order,
        starts_as_identity=_row.identity,
        limits=_row.limits,
    )(_wrapper(_row))
    globals()[_class.__name__] = _class  # under its own name, so that it pickles

for _name, _reason in UNSUPPORTED.items():
    MODULES.refuse(_name, _reason)
