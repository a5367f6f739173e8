"""Download weights, and print their folder: ``download REPOSITORY REVISION FOLDER``."""

import sys

from captionkit.models.variants import Variant
from captionkit.models.weights import WeightsError, ensure_weights

try:
    print(ensure_weights(Variant("tiny", sys.argv[1], sys.argv[2]), sys.argv[3]))
except WeightsError as error:
    sys.exit(str(error))
