"""Mutations of valid files that keep their structure, for tests/test_malformed.py."""

# ruff: noqa: E501

from __future__ import annotations

import copy
import io
import random
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

VALUES = (
    None, True, False, 0, -1, 1, 1.5, -1e308, 1e308, float("nan"), float("inf"), 10**40, "", " ", "none", "../../etc/passwd",
    "x" * 5000, "\x00", "{}", "[]", "<script>", "日本語", [], [[]], [None], {}, {"": None}, {"a": {"b": [1]}}, "1e9999", "-",
)  # fmt: skip


def paths(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in nested dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*here, key)
        yield from paths(value, (*here, key))


def mutated(tree: Any, rng: random.Random) -> Any:
    """Return a copy with one place changed: another value, a key gone, misspelt or doubled, an item more or less."""
    tree = copy.deepcopy(tree)
    place = rng.choice(list(paths(tree)))
    parent = tree
    for key in place[:-1]:
        parent = parent[key]
    last = place[-1]
    kind = rng.choice(("value", "value", "value", "drop", "rename", "nest", "repeat"))
    if kind == "value":
        parent[last] = copy.deepcopy(rng.choice(VALUES))
    elif kind == "drop":
        del parent[last]
    elif kind == "rename" and isinstance(parent, dict):
        parent[f"{last}s"] = parent.pop(last)
    elif kind == "nest":
        deep: Any = parent[last]
        for _ in range(rng.choice((1, 3, 60))):
            deep = {"a": deep} if rng.random() < 0.5 else [deep]
        parent[last] = deep
    else:
        value = parent[last]
        parent[last] = [value, value] if not isinstance(value, list) else value * 3
    return tree


def torn(data: bytes, rng: random.Random) -> bytes:
    """Return a file's bytes cut short, with bytes that are no UTF-8, with NULs, or with a stretch doubled."""
    at = rng.randrange(1, max(2, len(data)))
    return rng.choice(
        (
            data[:at],
            data[:at] + b"\xff\xfe\xfa" + data[at:],
            data[:at] + b"\x00" * 9 + data[at:],
            data[:at] + data[at // 2 : at] * 2 + data[at:],
            data[at:],
            b"",
            b"\xef\xbb\xbf",
        )
    )


YAML_TRICKS = (
    b"!!python/object/apply:os.system ['touch pwned']\n",
    b"space: !!python/name:os.system\n",
    b"a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nspace: [*c, *c, *c]\n",
    b"? [a, b]\n: 1\n",
    b"- 1\n- 2\n",
    b"just text\n",
    b"42\n",
    b"a: b: c\n",
    b"\t\tx: 1\n",
    b"%YAML 9.9\n---\nspace: x\n",
    b"space: five-properties\n---\nspace: other\n",
    b"{" * 400,
    b"[" * 3000,
    b"a: " + b"9" * 6000 + b"\n",
    b"space: *nowhere\n",
    b"1: 2\n",
    b"null: null\n",
    b"space: 2026-11-21\n",
)


def png(width: int = 8, height: int = 8, mode: str = "RGB") -> bytes:
    """Return a small image as PNG."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)).convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def tar_of(members: list[tuple[str | tarfile.TarInfo, bytes]]) -> bytes:
    """Return a tar file of (name, content)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if info.isfile() else 0
            archive.addfile(info, io.BytesIO(content) if info.isfile() else None)
    return file.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return a member that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info
