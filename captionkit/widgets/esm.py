"""ES modules of ``static/`` as the one module that anywidget takes."""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"
_IMPORT = re.compile(r'^import [^;]+ from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def bundle(name: str) -> str:
    """Join a module with those that it imports, each once and before the ones that need it.

    Imports and exports between them fall away, so their top-level names share one scope.
    """
    joined: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in joined:
            text = (STATIC / name).read_text(encoding="utf-8")
            for needed in _IMPORT.findall(text):
                add(needed)
            joined[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add(name)
    return "\n".join(joined.values())
