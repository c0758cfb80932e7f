"""What the command printed."""

import json
from typing import Any


def data(out: str) -> Any:
    """Return the data of a document that `--json` printed."""
    document = json.loads(out)
    assert document["schema_version"] == 1
    return document["data"]
