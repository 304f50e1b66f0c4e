"""Proves from the log that what was published is what the system says."""
