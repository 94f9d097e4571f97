"""All splits of a recipe as one checked HDF5 file, read through mmap."""
