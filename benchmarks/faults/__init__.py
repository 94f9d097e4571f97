"""The campaigns of faults.py, one a file, and the runs that they have in common."""
