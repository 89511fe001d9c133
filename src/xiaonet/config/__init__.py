"""The settings of every run."""
