"""Download weights: repository, revision and folder of models; print the folder of the weights."""

import sys

from captionkit.models.variants import Variant
from captionkit.models.weights import WeightsError, ensure_weights

try:
    print(ensure_weights(Variant("tiny", sys.argv[1], sys.argv[2]), sys.argv[3]))
except WeightsError as error:
    sys.exit(str(error))
