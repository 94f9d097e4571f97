"""Scores: confusion counts, predictions at original size, ensembles. Knows nothing of training."""
