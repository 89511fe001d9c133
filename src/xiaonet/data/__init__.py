"""Data sets, training windows and their loaders, on top of SeisBench."""
