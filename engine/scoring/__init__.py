"""Scores: confusion counts, predictions at original size, ensembles."""
