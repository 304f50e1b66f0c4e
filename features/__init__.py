"""What we know: definitions, state and the engine that turns events into a feature matrix."""
