"""Secrets in files of their own, as Docker and Kubernetes mount them. They are read at each load and reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.config.key_paths import KeyPath, Tree, descend
from gateway.config.origins import Origin, Origins
from gateway.config.validators import SUBSTITUTE_SECRET, check_file

MAX_BYTES = 65_536


def read_secret_files(tree: Tree, origins: Origins) -> dict[KeyPath, str]:
    """Sets `jwt.secret` to the content of `jwt.secret_file`, and does the same for the secret of each issuer and for
    `redis_url`. Records the files as the origins. Returns errors; the keys are the paths of the settings that name the
    files."""
    errors: dict[KeyPath, str] = {}
    for table, parent, name in tables_with_secrets(tree):
        file = table.get(f"{name}_file")
        if not isinstance(file, str) or not file:
            # Validation reports a value that is not the name of a file.
            continue
        path = (*parent, f"{name}_file")
        if table.get(name) is not None:
            errors[path] = f"can't be combined with {name}: set one of them"
            continue
        try:
            table[name] = read_secret(check_file(Path(file)))
            origins.add(table[name], Origin("secret file", file), (*parent, name))
        except OSError as error:
            errors[path] = f"can't read {file!r}: {error.strerror}"
        except ValueError as error:
            errors[path] = str(error)
        if path in errors and name == "secret":
            # With a substitute, validation still checks `algorithms` and the other settings of the key.
            table[name] = SUBSTITUTE_SECRET
    return errors


def tables_with_secrets(tree: Tree) -> Iterator[tuple[Tree, KeyPath, str]]:
    """Yields each table that may have a secret, the path of the table, and the name of the secret's setting."""
    issuers = descend(tree, ("jwt", "issuers"))
    indices = range(len(issuers) if isinstance(issuers, list) else 0)
    tables: list[KeyPath] = [("jwt",), *(("jwt", "issuers", index) for index in indices)]
    for path, name in [((), "redis_url"), *((path, "secret") for path in tables)]:
        if isinstance(table := descend(tree, path), dict):
            yield table, path, name


def read_secret(path: Path) -> str:
    """Reads a file, without the newline at its end. Raises OSError, or ValueError if the content is too long or not
    UTF-8. Error messages never contain the content."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{str(path)!r} has more than {MAX_BYTES} bytes, which is too much for a secret")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{str(path)!r} is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")
