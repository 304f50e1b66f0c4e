"""Settings of a project, typed and frozen."""
