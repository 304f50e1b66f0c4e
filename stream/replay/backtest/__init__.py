"""Recorded events through the live scorer: comparisons that touch nothing live."""
