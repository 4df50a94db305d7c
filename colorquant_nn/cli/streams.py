"""Standard output and error: whatever becomes of them, the work is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

__all__ = ["guarded"]


@contextmanager
def guarded() -> Iterator[list[OSError]]:
    """Keep the work from its reader: one that goes away, such as ``head``, changes nothing.

    A stream that is closed takes everything; characters that it cannot show are escaped.

    Yields:
        what went wrong with standard output for another reason, such as a full disk.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):  # what we open shall not take their places
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
    output, error = _Stream(sys.stdout), _Stream(sys.stderr)
    with redirect_stdout(cast(TextIO, output)), redirect_stderr(cast(TextIO, error)):
        try:
            yield output.errors
        finally:
            output.flush()
            error.flush()


class _Stream:
    """A text stream that never fails."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.errors: list[OSError] = []

    def write(self, text: str) -> int:
        if self.stream is not None:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.stream.encoding
                return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
            except OSError as error:
                self._lose(error)
            except ValueError:  # closed by somebody
                self.stream = None
        return len(text)

    def flush(self) -> None:
        try:
            if self.stream is not None:
                self.stream.flush()
        except OSError as error:
            self._lose(error)
        except ValueError:
            self.stream = None

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _lose(self, error: OSError) -> None:
        """What is still in buffers, and what follows, goes nowhere."""
        if not isinstance(error, BrokenPipeError):
            self.errors.append(error)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):  # a stream that is no file
            os.dup2(nowhere, self.stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
        stream, self.stream = self.stream, None
        with suppress(OSError, ValueError):
            stream.flush()  # type: ignore[union-attr]
