"""What all settings have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.config.validators import check_header_name, check_scope

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
HeaderName = Annotated[str, AfterValidator(check_header_name)]
Scope = Annotated[str, AfterValidator(check_scope)]
Text = Annotated[str, Field(min_length=1)]


class Model(BaseModel):
    # Secrets must not come back in a mistake's text, whatever the mistake is.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def changed_fields(settings: BaseModel) -> list[str]:
    """The names of the settings that have other values than their defaults."""
    fields = type(settings).model_fields
    return [
        name for name in fields if name in settings.model_fields_set and getattr(settings, name) != fields[name].default
    ]


def refuse(mistakes: list[str]) -> None:
    """Raises the mistakes, a line each, where there are any."""
    if mistakes:
        raise ValueError("\n".join(mistakes))
