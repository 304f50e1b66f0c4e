"""Kafka clients and their errors."""
