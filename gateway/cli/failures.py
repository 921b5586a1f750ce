"""How commands end: 0 done or yes, 1 refused or no, 2 the command could not run or find out."""

from __future__ import annotations

import click

COULD_NOT_RUN = 2


class CouldNotRun(click.ClickException):
    exit_code = COULD_NOT_RUN
