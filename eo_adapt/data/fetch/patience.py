"""How long a download waits, and how often it tries: exponential backoff with jitter, and a watch on stalls."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field


class AgainError(Exception):
    """An attempt failed in a way that may pass.

    Attributes:
        after: Seconds that the server asks to wait; None = it does not say.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class RestartError(AgainError):
    """What came so far is not of the file that the server has now."""


@dataclass(frozen=True)
class Patience:
    """How long to wait.

    Attributes:
        attempts: Failures in a row without one new byte after which a download gives up.
        base: Seconds before the second attempt; each further wait is twice as long.
        longest: Longest wait in seconds, whatever a server asks for.
        connect: Seconds to reach the server.
        stall: Seconds without :attr:`least` bytes after which a connection counts as dead.
        least: Bytes.
    """

    attempts: int = 6
    base: float = 1.0
    longest: float = 60.0
    connect: float = 15.0
    stall: float = 60.0
    least: int = 1024

    def tries(self) -> Tries:
        """A count of failures."""
        return Tries(self)

    def watch(self) -> Watch:
        """A watch on one connection."""
        return Watch(self)


@dataclass
class Tries:
    """Failures in a row."""

    patience: Patience
    failures: int = 0
    waits: list[float] = field(default_factory=list)

    def wait(self, problem: AgainError, moved: bool) -> bool:
        """Wait before the next attempt; False = there is none. ``moved``: some bytes came that were never there."""
        self.failures = 1 if moved else self.failures + 1
        if self.failures >= self.patience.attempts:
            return False
        asked = self.patience.base * 2 ** (self.failures - 1) if problem.after is None else problem.after
        # Jitter: a hundred jobs that one fault stopped do not come back in one second.
        seconds = min(asked, self.patience.longest) * random.uniform(0.75, 1.25)  # noqa: S311
        self.waits.append(seconds)
        time.sleep(seconds)
        return True


@dataclass
class Watch:
    """Notices a connection over which next to nothing comes; one that is silent ends by its timeout."""

    patience: Patience
    since: float = field(default_factory=time.monotonic)
    bytes: int = 0

    def saw(self, count: int) -> None:
        """Some bytes came.

        Raises:
            AgainError: If they are too few for the time that passed.
        """
        self.bytes += count
        now = time.monotonic()
        if now - self.since < self.patience.stall:
            return
        if self.bytes < self.patience.least:
            raise AgainError(f"only {self.bytes} bytes came in {now - self.since:.0f} s")
        self.since, self.bytes = now, 0
