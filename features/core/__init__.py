"""What every layer stands on: errors, batches, time, settings files, compiled code."""
