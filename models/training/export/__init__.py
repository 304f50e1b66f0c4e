"""A trained model as files of a bundle: its graph, and what stands beside it."""
