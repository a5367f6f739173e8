"""Review of captions: rule-based checks, differences between runs, blind A/B comparison."""

from captionkit.review.agreement import agreements
from captionkit.review.blind import AB, Choice, Pair
from captionkit.review.checks import CHECKS, FAULTS, UNSUPPORTED, check, check_table, faults
from captionkit.review.comparison import Comparison, compare, compare_tables, stability
from captionkit.review.report import SetReport, report
from captionkit.review.scores import MEASURES, mean_scores, scores

__all__ = [
    "AB",
    "CHECKS",
    "FAULTS",
    "MEASURES",
    "UNSUPPORTED",
    "Choice",
    "Comparison",
    "Pair",
    "SetReport",
    "agreements",
    "check",
    "check_table",
    "compare",
    "compare_tables",
    "faults",
    "mean_scores",
    "report",
    "scores",
    "stability",
]
