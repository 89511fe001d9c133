"""Programs that work through an archive."""
