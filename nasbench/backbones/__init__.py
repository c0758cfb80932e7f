"""Backbones, their slots, and the insertion and removal of modules.

Names are loaded on first use. Code that only handles backbone names imports neither torch nor timm.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
