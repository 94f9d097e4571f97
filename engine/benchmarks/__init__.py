"""What `python -m engine.benchmark` measures: our parts beside those of others, interleaved in a process."""
