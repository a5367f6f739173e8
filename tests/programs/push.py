"""Export captions as a data set and upload it: ``push CAPTIONS FOLDER REPOSITORY``."""

import sys

import captionkit as ck
from captionkit.export import ExportError

captions, folder, repository = sys.argv[1:]
try:
    ck.export_dataset(
        ck.load_captions(captions), folder, "videofolder", push_to_hub=repository, overwrite=True
    )
except ExportError as error:
    sys.exit(str(error))
