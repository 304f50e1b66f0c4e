"""The engine over recorded events: tables in, feature matrices out."""
