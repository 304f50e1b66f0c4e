"""Recorded events scored again: backtests and certificates."""
