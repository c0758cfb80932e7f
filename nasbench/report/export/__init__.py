"""Export of a trial as a folder that works without nasbench, and of the trials table in other formats.

Names are loaded on first use, so that writing a table does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
