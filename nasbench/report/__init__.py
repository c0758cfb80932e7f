"""The report of a run: figures, tables and one offline HTML page. Loaded on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
