"""What happens to a batch of events: order, scoring, delivery, commit."""
