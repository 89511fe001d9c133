"""How picks are matched with labels, and how thresholds are chosen: the same rules for training and evaluation."""
