"""How well scores rank, counted part by part."""
