"""WHAT FOR: tasks, their data, loss and metrics. `create_task` makes one from the text a person types.

Names are loaded on first use: what knows tasks by name alone imports no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
