"""The worker: its loop, phases, recovery, and what it is put together from."""
