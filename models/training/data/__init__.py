"""Training sets: rows, labels, encodings, folds."""
