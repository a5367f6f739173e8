"""Import the module named by the argument and print the packages that came along, a line each."""

import importlib
import sys

before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}), sep="\n")
