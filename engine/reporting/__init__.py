"""What a run tells people: the console, the log, TensorBoard, pictures and the report page."""
