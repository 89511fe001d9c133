"""Quantization, and export to formats that need no torch."""
