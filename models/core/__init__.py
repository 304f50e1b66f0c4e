"""What a model is, what its manifest says, and the errors of models and policies."""
