"""How it moves: Kafka, HTTP, the command line, metrics and the demo."""
