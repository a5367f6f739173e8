"""Export run 1 and print the most memory that it took, in MB: ``export_size STORE PATH``."""

import resource
import sys

from captionkit.run import open_run

open_run(1, sys.argv[1]).export(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
