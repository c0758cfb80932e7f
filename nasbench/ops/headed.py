"""A host with a head."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["DenseModel"]


class DenseModel(nn.Module):
    """A dense host with a head: from images `(B, 3, H, W)` to what the head computes.

    Args:
        host: From images to a list of maps.
        head: A head of the library.
    """

    def __init__(self, host: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.host, self.head = host, head
        self.pretrained_cfg = getattr(host, "pretrained_cfg", {})

    def forward(self, x: Tensor) -> Any:
        """Compute the head's raw output for images `(B, 3, H, W)`."""
        return self.head(self.host(x), x)

    def get_classifier(self) -> nn.Module:
        """Return the head. This method is part of timm's interface for models."""
        return self.head
