from .assembly import build

__all__ = ["build"]
