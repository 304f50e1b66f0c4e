"""A project as a whole: built from its settings, examined, begun."""
