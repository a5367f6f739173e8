"""Download weights, and print their folder: ``download REPOSITORY REVISION FOLDER [asked]``."""

import sys

from captionkit.models.variants import Variant
from captionkit.models.weights import WeightsError, ensure_weights

repository, revision, folder, *asked = sys.argv[1:]
try:
    print(ensure_weights(Variant("tiny", repository, revision or None), folder, asked=bool(asked)))
except WeightsError as error:
    sys.exit(str(error))
