"""What the demo shows, read from its topics as any subscriber would."""
