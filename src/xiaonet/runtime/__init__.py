"""Runtimes that compute probabilities of windows, behind one protocol."""
