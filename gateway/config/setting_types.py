"""The types of settings by their places, before there are any values."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel


def member(annotation: Any, key: int | str) -> Any:
    """The type of `key` inside a model, a table or a list; None where there is no such key."""
    for one in alternatives(annotation):
        if is_model(one):
            field = one.model_fields.get(str(key))
            return field.annotation if field else None
        if get_origin(one) is dict:
            return get_args(one)[1]
        if get_origin(one) in (tuple, list) and isinstance(key, int):
            return get_args(one)[0]
    return None


def type_at(model: Any, place: tuple[int | str, ...]) -> Any:
    """The type of the setting at a place within `model`; None where there is no such setting."""
    annotation: Any = model
    for key in place:
        annotation = member(annotation, key)
    return annotation


def alternatives(annotation: Any) -> list[Any]:
    """`X | None` → [X]; Annotated is looked through."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [leaf for one in get_args(annotation) for leaf in alternatives(one) if leaf is not type(None)]
    return [annotation]


def is_model(one: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(one, type) and issubclass(one, BaseModel)


def takes_list(annotation: Any) -> bool:
    return any(get_origin(leaf) in (tuple, list) for leaf in alternatives(annotation))


def takes_any_name(annotation: Any) -> bool:
    """Whether it is a table whose names are free, such as that of the services."""
    return any(get_origin(leaf) is dict for leaf in alternatives(annotation))
