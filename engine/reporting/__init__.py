"""The output of a run: console, logs, loggers, pictures and the report page."""
