"""Run the functions named ``check_…`` of a program: its name, then the arguments of every check."""

from __future__ import annotations

import importlib
import json
import sys
import traceback


def main() -> None:
    """Print a JSON object from check (without ``check_``) to traceback, "" for a passed check."""
    name, *arguments = sys.argv[1:]
    module = importlib.import_module(f"programs.{name}")
    found = {}
    for each, check in vars(module).items():
        if not each.startswith("check_"):
            continue
        try:
            check(*arguments)
        except BaseException:
            found[each.removeprefix("check_")] = traceback.format_exc()
        else:
            found[each.removeprefix("check_")] = ""
    print(json.dumps(found))


if __name__ == "__main__":
    main()
