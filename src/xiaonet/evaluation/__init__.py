"""Scores like a evaluator's: the same windows for all models, intervals with every figure, one report."""
