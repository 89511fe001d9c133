"""Reading records and writing picks."""
