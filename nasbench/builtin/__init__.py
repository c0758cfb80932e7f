"""The content that ships with nasbench: `modules/`, `search_spaces/` and `reports/`.

In a wheel the three folders lie inside this package. In a checkout they lie at the root of the repository. Extending
`__path__` gives a built-in file the same import name in both (`nasbench.builtin.modules.channel.se`), so that its
classes pickle and survive `spawn`.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
# For an installed package, `_CHECKOUT` is site-packages, which must not be searched.
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "modules").is_dir():
    __path__.append(str(_CHECKOUT))


def content_folder(name: str) -> Path:
    """Return the path of a built-in folder.

    Args:
        name: `modules`, `search_spaces` or `reports`.

    Raises:
        FileNotFoundError: If nasbench is installed without this folder.
    """
    for root in __path__:
        folder = Path(root) / name
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"nasbench is installed without its {name}/ folder; reinstall it")
