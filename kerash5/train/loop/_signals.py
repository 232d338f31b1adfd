"""SIGTERM and Ctrl-C in a fit: the first ends it after the current step, the second at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Final, Self, final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@final
class Signals:
    """Catches both signals within a `with` block, and restores the old handlers.

    Only the main thread may set handlers; in any other thread nothing is caught.

    Attributes:
        caught: The first signal received; None if there was none.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Set the handlers."""
        if threading.current_thread() is threading.main_thread():
            heeded = [each for each in _SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._catch) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the old handlers."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def error(self) -> BaseException:
        """Return the exception to raise for the signal: the one that Python raises by default."""
        return _error(self.caught or signal.SIGTERM)

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        if self.caught is not None:
            raise _error(number)
        self.caught = number


def _error(number: int) -> BaseException:
    if number == signal.SIGINT:
        return KeyboardInterrupt("stopped by Ctrl-C")
    return SystemExit(128 + number)
