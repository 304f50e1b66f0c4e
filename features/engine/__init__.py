"""Turns micro-batches into feature matrices."""
