"""The Kafka worker: consume, transact, recover."""
