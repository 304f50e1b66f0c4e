"""Logs, metrics, progress, and named moments of the protocol."""
