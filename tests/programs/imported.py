"""Import the module of the argument and print all packages imported with it, one a line."""

import importlib
import sys

before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}), sep="\n")
