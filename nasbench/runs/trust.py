"""Whether this machine's user made a run. Only then is the Python code of the run executed without `--trust`.

A search writes a tag into the run folder: a message authentication code (HMAC) of config.yaml, with a key that only
this user can read. config.yaml contains the hash of every copied Python file. So the tag is right only if the settings
and the code are those of the search.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasbench.errors import RunError
from nasbench.files import read_json, write_text
from nasbench.runs.folder import RunFolder
from nasbench.runs.schema import config_text

__all__ = ["is_trusted", "write_tag"]

_BYTES = 32
"""Length of the key in bytes, which is the length of a SHA-256 hash."""


def write_tag(folder: RunFolder, config: Mapping[str, Any]) -> None:
    """Record that this user made the run. If the user's state directory cannot be written, nothing is recorded.

    Args:
        folder: The run folder.
        config: The contents of config.yaml.

    Raises:
        OSError: If the run folder cannot be written.
    """
    key = _key(create=True)
    if key is None:
        # An old tag in the folder is removed, because the message about a missing tag is clearer than the message about
        # a wrong one.
        folder.trust.unlink(missing_ok=True)
    else:
        write_text(folder.trust, json.dumps({"tag": _tag(key, config)}) + "\n")


def is_trusted(folder: RunFolder, config: Mapping[str, Any]) -> bool:
    """Whether a run has the tag that this user's key gives for this configuration.

    This does not compare the copied files with their hashes.
    """
    key = _key(create=False)
    if key is None or not folder.trust.is_file() or folder.trust.is_symlink():
        return False
    try:
        told = read_json(folder.trust, "trust", RunError)
    except RunError:
        return False
    tag = told.get("tag") if isinstance(told, dict) else None
    # compare_digest raises an error for text that is not ASCII
    return isinstance(tag, str) and tag.isascii() and hmac.compare_digest(tag, _tag(key, config))


def _tag(key: bytes, config: Mapping[str, Any]) -> str:
    return hmac.new(key, config_text(dict(config)).encode(), hashlib.sha256).hexdigest()


def _key(*, create: bool) -> bytes | None:
    """Return the user's key, 32 bytes. None if it does not exist, or if it cannot be read or created."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the user has no home folder
        root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        file = root / "nasbench" / "key"
        if create and not file.is_file():
            _make_key(file)
        key = file.read_bytes()
        return key if len(key) == _BYTES else None
    return None


def _make_key(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = file.with_name(f".key.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(_BYTES))
    finally:
        os.close(descriptor)
    try:
        os.link(own, file)  # unlike a rename, a link never replaces the key of a search that started at the same time
    except FileExistsError:
        pass
    finally:
        own.unlink()
