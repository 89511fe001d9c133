"""From a trained model to what runs without torch."""
