"""Applications that process whole archives."""
