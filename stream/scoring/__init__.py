"""Where features, model and policy meet: the scorer, its challengers, hot swap."""
