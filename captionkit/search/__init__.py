"""Search for the best recipe for a budget, and prompts proposed to search among."""

from captionkit.search.aim import Aim
from captionkit.search.found import Found
from captionkit.search.halving import search
from captionkit.search.measured import Choice, HeldOut, Measured
from captionkit.search.metric import METRICS, MetricError, metrics
from captionkit.search.paired import Paired, paired
from captionkit.search.proposals import BLOCKS, Proposals, propose
from captionkit.search.watched import search_watched

__all__ = [
    "BLOCKS",
    "METRICS",
    "Aim",
    "Choice",
    "Found",
    "HeldOut",
    "Measured",
    "MetricError",
    "Paired",
    "Proposals",
    "metrics",
    "paired",
    "propose",
    "search",
    "search_watched",
]
