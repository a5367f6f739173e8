"""Keep 50 entries on a file (the argument) under a number (the next one); print how many are found."""

import sys

from captionkit.video.cache import file_cache, file_stamp

path, number = sys.argv[1:]
stamp = file_stamp(path)
names = [f"{number}-{index}" for index in range(50)]
for name in names:
    file_cache().put(path, name, stamp, name.encode())
print(sum(file_cache().get(path, name, stamp) == name.encode() for name in names))
