"""The worker: its loop, unit of work, delivery, assignment and recovery."""
