"""WHAT IS SAID: plots, tables and the offline HTML page of a run, comparison, export, suggestion and catalogue."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
