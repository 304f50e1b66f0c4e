"""Datasets, training and evaluation; never imported when serving."""
