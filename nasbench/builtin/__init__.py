"""The content that ships with nasbench: `modules/`, `search_spaces/` and `reports/`.

In a wheel the three folders lie inside this package; in a checkout they lie at the repository's root. Extending
`__path__` gives a built-in file one import name everywhere (`nasbench.builtin.modules.channel.se`), so that built-in
classes pickle and survive `spawn` either way.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "modules").is_dir():
    __path__.append(str(_CHECKOUT))


def content_folder(name: str) -> Path:
    """Return the built-in folder called `name`: `modules`, `search_spaces` or `reports`."""
    for root in __path__:
        folder = Path(root) / name
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"nasbench is installed without its {name}/ folder; reinstall it")
