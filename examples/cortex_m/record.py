"""Write the record that `main.c` replays: `python record.py FILES_OF_MINISEED record.bin`.

The files hold three components of one station at 100 Hz. The record is the time that all three have, without a gap.
"""

import sys
from fractions import Fraction

import numpy as np
import obspy

from xiaonet.picking.segments import Grid

*files, out = sys.argv[1:]
stream = obspy.Stream(trace for file in files for trace in obspy.read(file))
stream.trim(max(trace.stats.starttime for trace in stream), min(trace.stats.endtime for trace in stream))
components = [stream.select(channel=f"??[{letters}]") for letters in ("E2", "N1", "Z")]
if [len(found) for found in components] != [1, 1, 1] or {trace.stats.sampling_rate for trace in stream} != {100.0}:
    sys.exit(f"found {', '.join(map(str, stream))}; wanted E or 2, N or 1, and Z at 100 Hz, each without a gap")
start_ns = stream[0].stats.starttime.ns
grid = Grid.of(start_ns, Fraction(100))
counts = np.stack([found[0].data for found in components], axis=1).astype("<i4")
with open(out, "wb") as file:
    file.write(np.array([grid.index(start_ns), grid.phase_ns, len(counts)], "<i8").tobytes() + counts.tobytes())
