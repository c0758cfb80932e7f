"""WHAT FOR: tasks with their data, loss and metrics. `create_task` makes a task from the text that a person types.

Each name is loaded on first use. So code that needs only the names of tasks does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
