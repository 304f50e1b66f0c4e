"""Checks of definitions: every mistake names its place."""
