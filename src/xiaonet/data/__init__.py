"""Data sets, training windows and loaders, based on SeisBench."""
