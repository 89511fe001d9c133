"""Distillation: losses, loop, checks, advice, and the run that holds them together."""
