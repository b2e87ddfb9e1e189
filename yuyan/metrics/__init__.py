"""What answers are worth, with an interval."""

from yuyan.metrics.correlation import spearman, spearman_interval
from yuyan.metrics.interval import Interval, difference_interval, paired_interval, ratio_interval, share_interval
from yuyan.metrics.likelihood import bits_per_byte, perplexity

__all__ = [
    "Interval",
    "bits_per_byte",
    "difference_interval",
    "paired_interval",
    "perplexity",
    "ratio_interval",
    "share_interval",
    "spearman",
    "spearman_interval",
]
