"""Training: one trainer with two objectives, and the losses, checks and diagnostics that it uses."""
