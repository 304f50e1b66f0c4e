"""Model as a service: the scorer over HTTP."""
