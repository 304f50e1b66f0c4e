"""Latency figures by way of an HDR histogram."""

from __future__ import annotations

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

LOWEST_US, HIGHEST_US, DIGITS = 1, 60_000_000, 3


def percentiles(values_ms: Iterable[float]) -> dict[str, float]:
    """p50, p99, p99.9 and the maximum, in milliseconds."""
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for value in values_ms:
        histogram.record_value(max(LOWEST_US, int(value * 1000)))
    return {
        "p50_ms": histogram.get_value_at_percentile(50) / 1000,
        "p99_ms": histogram.get_value_at_percentile(99) / 1000,
        "p99_9_ms": histogram.get_value_at_percentile(99.9) / 1000,
        "max_ms": histogram.get_max_value() / 1000,
        "samples": histogram.get_total_count(),
    }
