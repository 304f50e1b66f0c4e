"""Model runtimes, one file each."""
