"""What a run shows to people: console, logs, loggers, pictures and the report page."""
