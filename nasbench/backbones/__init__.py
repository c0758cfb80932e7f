"""WHERE modules go: the host networks and the slots in them, insertion and the way back.

Names are loaded on first use: what knows backbones by name alone imports neither torch nor timm.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
