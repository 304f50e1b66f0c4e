"""Requests to scores: bodies, rows, tensors, batching."""
