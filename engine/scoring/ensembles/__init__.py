"""Methods that combine several trained members into one predictor, and their comparison."""
