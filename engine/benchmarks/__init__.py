"""What `trident benchmark` measures: our parts beside those of others, interleaved in a process."""
