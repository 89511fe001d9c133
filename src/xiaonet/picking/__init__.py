"""From samples to picks, with NumPy, SciPy and ObsPy alone.

`segments` brings a stream or an archive to three components at 100 Hz, with `cleaning` and `resampling`.
`annotation` computes probabilities: it cuts and normalizes `windows`, and does the `stacking` of what the
network returns. `picks` reads picks from the probabilities.
"""
