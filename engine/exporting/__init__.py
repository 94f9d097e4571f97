"""What leaves Trident: weights for other libraries, results for a server, graphs that run without it."""
