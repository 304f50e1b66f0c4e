"""The compiled hot path: reads every window and folds each event in; rows to bytes and back."""
