"""State of slices: read, kept, flushed, checked."""
