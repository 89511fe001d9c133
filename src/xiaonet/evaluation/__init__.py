"""Evaluation: all models see the same windows, every figure has an interval, and one report shows them."""
