"""Secrets in files of their own, as Docker and Kubernetes mount them. They are read at each load, also on a reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config.origins import Origin, Origins
from gateway.config.places import Place
from gateway.config.validators import STAND_IN_SECRET, check_file

MAX_BYTES = 65_536


def read_secret_files(tree: dict[str, Any], origins: Origins) -> dict[Place, str]:
    """Puts what is in `jwt.secret_file` into `jwt.secret`, and so for each issuer and for `redis_url_file`, and notes
    the file as its origin. What is wrong with files, by the places of the settings that name them."""
    mistakes: dict[Place, str] = {}
    for table, place, name in tables_with_secrets(tree):
        path = table.get(f"{name}_file")
        if not isinstance(path, str) or not path:
            # Validation tells what is wrong with it.
            continue
        file_place = (*place, f"{name}_file")
        if table.get(name) is not None:
            mistakes[file_place] = f"can't be combined with {name}: give one of them"
            continue
        try:
            table[name] = read_secret(check_file(Path(path)))
            origins.add(table[name], Origin("secret file", path), (*place, name))
        except OSError as error:
            mistakes[file_place] = f"can't read {path!r}: {error.strerror}"
        except ValueError as error:
            mistakes[file_place] = str(error)
        if file_place in mistakes and name == "secret":
            # Algorithms and other settings are still looked at as if it were there.
            table[name] = STAND_IN_SECRET
    return mistakes


def tables_with_secrets(tree: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Place, str]]:
    yield tree, (), "redis_url"
    jwt = tree.get("jwt")
    if isinstance(jwt, dict):
        yield jwt, ("jwt",), "secret"
        issuers = jwt.get("issuers")
        for index, issuer in enumerate(issuers if isinstance(issuers, list) else []):
            if isinstance(issuer, dict):
                yield issuer, ("jwt", "issuers", index), "secret"


def read_secret(path: Path) -> str:
    """The file's text without the newline at its end. Raises OSError, or ValueError where it is none; its content is
    in no message."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{str(path)!r} has more than {MAX_BYTES} bytes: that is no secret")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{str(path)!r} is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")
