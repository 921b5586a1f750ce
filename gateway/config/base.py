"""What all models of settings share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """The docstring under each field is its description in docs/configuration.md and in the JSON schema."""

    # An error must not repeat its input, which may be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def changed_fields(settings: BaseModel) -> list[str]:
    """The names of the settings that have other values than their defaults."""
    return [name for name, field in type(settings).model_fields.items() if getattr(settings, name) != field.default]


def refuse(errors: list[str]) -> None:
    """Raises ValueError with one error a line, if there are any."""
    if errors:
        raise ValueError("\n".join(errors))
