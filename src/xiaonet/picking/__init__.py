"""From samples to picks with NumPy, SciPy and ObsPy alone."""
