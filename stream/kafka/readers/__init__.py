"""Readers of topics outside the group: bounded and following."""
