"""Runs next to each other while they train, from their files alone: on a terminal, and as a page."""
