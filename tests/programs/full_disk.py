"""Write lines until the file reaches its largest size, and print their number: ``full_disk FILE``."""

import resource
import sys

from stores import window

from captionkit.captions import caption_rows, window_columns
from captionkit.export import ExportError, JsonLines
from captionkit.recipe import Recipe

resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
rows = [vars(row) for row in caption_rows(window_columns(window(0)), Recipe(), [], "it broke")]
lines = JsonLines(sys.argv[1])
try:
    while True:
        lines.write(rows)
except ExportError as error:
    print(lines.windows)
    sys.exit(str(error))
