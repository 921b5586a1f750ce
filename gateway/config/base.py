"""The base of all models of settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


class Model(BaseModel):
    """The docstring under each field is its description in docs/configuration.md and in the JSON schema."""

    # An error must not repeat its input, which may be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def conflicts(self) -> Iterator[str]:
        """Yields the errors in combinations of settings that are valid by themselves. Each error begins with the name
        of the wrong setting."""
        yield from ()

    @model_validator(mode="after")
    def check_conflicts(self) -> Self:
        if errors := list(self.conflicts()):
            raise ValueError("\n".join(errors))
        return self

    def changed_fields(self) -> list[str]:
        """The names of the settings that have other values than their defaults."""
        return [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
