"""What we conclude: a feature matrix becomes scores and decisions."""
