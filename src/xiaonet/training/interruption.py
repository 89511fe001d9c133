"""Ctrl-C and SIGTERM: stop gracefully after the batch, or at once at a second signal."""

import signal
import time
from types import TracebackType
from typing import Self

from xiaonet import console

SAME_SIGNAL_SECONDS = 1.0  # a launcher passes Ctrl-C on to processes that had it from the terminal already


class StopRequest:
    """Within a `with` block, the first signal sets `asked`; a second one, at least a second later, raises KeyboardInterrupt.

    Args:
        resume_command: continues the run; it is shown when the run stops at once.
    """

    def __init__(self, resume_command: str) -> None:
        self.resume_command = resume_command
        self.asked_at: float | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.asked_at is not None

    def __enter__(self) -> Self:
        kinds = (signal.SIGINT, signal.SIGTERM)
        self.handlers = {kind: signal.signal(kind, self._receive) for kind in kinds}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _receive(self, *_: object) -> None:
        now = time.monotonic()
        if self.asked_at is None:
            self.asked_at = now
            console.warn("Training", "stopping", "after this batch; press Ctrl-C again to stop at once")
        elif now - self.asked_at > SAME_SIGNAL_SECONDS:
            console.warn("Training", "stopped at once", f"resume from the last save with: {self.resume_command}")
            raise KeyboardInterrupt
