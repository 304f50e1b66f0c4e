"""How good, stable and fair a model is, and the report that says so."""
