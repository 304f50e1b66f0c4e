"""Bytes to columns and back, one wire format a file."""
