"""Recipes compared over seeds: the grid of runs, what finished runs tell, the comparison, its page."""
