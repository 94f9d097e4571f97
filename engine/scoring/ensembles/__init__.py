"""Ways to make one predictor of several trained members, and what each is worth."""
