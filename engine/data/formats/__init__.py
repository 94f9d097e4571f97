"""Anyone's files: one class reads them all; a format pairs them and says what the masks mean."""
