"""Training: the loop, one update, optimiser, schedule, checkpoints, several processes."""
