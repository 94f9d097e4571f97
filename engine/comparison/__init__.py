"""Recipes compared over seeds: the grid of runs, reading finished runs, the comparison, its page."""
