"""Rules, lists and thresholds over whole batches."""
