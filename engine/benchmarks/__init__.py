"""What `trident benchmark` measures: our parts and those of other libraries, interleaved in one process."""
