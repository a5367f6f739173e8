"""``python -m captionkit.bench NAME``: one measurement by its name, with its own options."""

from __future__ import annotations

import argparse
import sys

from captionkit.bench import at_scale, growth, opening, store
from captionkit.system.lifetime import ends_as_interrupted

_BENCHES = {
    "growth": growth.main, "opening": opening.main, "ray": at_scale.main, "store": store.main,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run a measurement and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.bench", description=__doc__)
    parser.add_argument("name", choices=_BENCHES, metavar="|".join(_BENCHES))
    options = parser.parse_args(arguments[:1])
    try:
        with ends_as_interrupted():
            return _BENCHES[options.name](arguments[1:])
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
