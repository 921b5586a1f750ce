"""What commands print. Where it can't be written (a full disk, a closed pipe), a command ends without a traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import NoReturn

from gateway.cli.failures import COULD_NOT_RUN


class EndingOutput(io.TextIOWrapper):
    """Standard output that ends the command where it can't be written to."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._end(error)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> NoReturn:
        # What is left in the buffer would be written, and fail, once more when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        # Whoever closes a pipe has read enough.
        if error.errno != errno.EPIPE:
            print(f"Error: standard output can't be written: {error.strerror}", file=sys.stderr)
        sys.exit(COULD_NOT_RUN)


def end_where_output_fails() -> None:
    """For the process of a command. Does nothing where there is no standard output, or it is no file."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not isinstance(sys.stdout, EndingOutput):
        old = sys.stdout
        # The old one stays in sys.__stdout__; were it collected, it would close what both write to.
        sys.stdout = EndingOutput(
            old.buffer, encoding=old.encoding, errors=old.errors, line_buffering=old.line_buffering
        )
