"""Export of a trial as a folder that works without nasbench, and of the trials table in other formats.

Names are loaded on first use, so that the table is written without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
