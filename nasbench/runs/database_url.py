"""The URL of a study that several machines share, without its password.

The password is needed only to connect. It is never part of the text, so that no file, message, error or process list
can contain it. If the typed URL has no password, libpq itself reads one from `PGPASSWORD`, `PGPASSFILE` or `~/.pgpass`.
"""

from __future__ import annotations

import re
from typing import Self
from urllib.parse import unquote

__all__ = ["DatabaseUrl"]

# A password in a URL must not contain "@", "/" or "?", except as %XX. These patterns also find a password that does,
# because it must not be shown either. The first leaves the query alone, in which an "@" can occur. The second finds a
# password that contains "?".
_AUTHORITIES = (
    re.compile(r"(?P<before>[^:/?#@]*://[^:/?#@]*):(?P<password>[^?]*)(?P<after>@.*)", re.DOTALL),
    re.compile(r"(?P<before>[^:/?#@]*://[^:/?#@]*):(?P<password>.*)(?P<after>@.*)", re.DOTALL),
)

# libpq also accepts the password as a parameter in the query of a URL.
_IN_QUERY = re.compile(r"(?P<mark>[?&])password=(?P<password>[^&]*)&?")


class DatabaseUrl(str):
    """The URL of a database, as text without the password.

    The password of the typed URL is an attribute, and `repr`, `pickle`, JSON and YAML do not contain it.

    Args:
        url: The URL, with or without a password.

    Attributes:
        password: The password that the URL contained. None if it had none.

    Example:
        >>> url = DatabaseUrl("postgresql://me:secret@host/studies")
        >>> url
        'postgresql://me@host/studies'
    """

    password: str | None

    def __new__(cls, url: str) -> Self:
        """Separate the password from the text."""
        text, password = str(url), getattr(url, "password", None)
        for pattern in _AUTHORITIES:
            if (match := pattern.fullmatch(text)) is not None:
                text, password = match["before"] + match["after"], unquote(match["password"])
                break
        while (match := _IN_QUERY.search(text)) is not None:
            text, password = text[: match.end("mark")] + text[match.end() :], unquote(match["password"])
        found = super().__new__(cls, text.rstrip("?&"))
        found.password = password or None
        return found

    def __reduce__(self) -> tuple[type[DatabaseUrl], tuple[str]]:
        return DatabaseUrl, (str(self),)
