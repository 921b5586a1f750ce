"""`flask config`: the configuration in force with the source of each value, and the JSON schema of its file."""

from __future__ import annotations

import json
from typing import Any

import click

from gateway.cli.output import print_table, printable
from gateway.config import Settings
from gateway.config.dotenv_files import names_from_dotenv
from gateway.config.environment import is_name_of_a_setting
from gateway.config.generated_keys import SECRET_FILE, SIGNING_KEY_FILE
from gateway.config.json_schema import json_schema
from gateway.config.key_paths import KeyPath, full_name
from gateway.config.load import Loaded, instance_folder, load
from gateway.config.origins import leaves_of
from gateway.status.redaction import redacted_configuration

# Settings whose values are generated if they are not set, and the files that store these values.
GENERATED: dict[KeyPath, str] = {
    ("jwt", "secret"): SECRET_FILE,
    ("identity", "private_key_file"): SIGNING_KEY_FILE,
}


def config_command(settings: Settings) -> click.Command:
    @click.group("config", invoke_without_command=True)
    @click.option("--json", "as_json", is_flag=True, help="Print it as a JSON document.")
    @click.pass_context
    def config(context: click.Context, as_json: bool) -> None:
        """Print the configuration in force, without secrets, and the source of each value."""
        if context.invoked_subcommand is not None:
            return
        for name in sorted(filter(is_name_of_a_setting, names_from_dotenv())):
            click.echo(f"{name} of .env is not used: neither commands nor the server read that file.", err=True)
        loaded = load()
        values = [
            {"name": full_name(path), "value": value, **origin_of(path, value, loaded)}
            for path, value in leaves_of(redacted_configuration(settings))
        ]
        if as_json:
            file = str(loaded.file) if loaded.file else None
            click.echo(json.dumps({"file": file, "settings": values}, indent=2))
            return
        rows = [("SETTING", "VALUE", "FROM")]
        for value in values:
            written = "" if value["value"] is None else json.dumps(value["value"], ensure_ascii=False)
            rows.append(
                (value["name"], printable(written), printable(f"{value['from']} {value['source'] or ''}".rstrip()))
            )
        print_table(rows)

    config.add_command(schema_command)
    return config


@click.command("schema")
def schema_command() -> None:
    """Print the JSON schema of gateway.toml, for editors."""
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def origin_of(path: KeyPath, value: Any, loaded: Loaded) -> dict[str, str | None]:
    """Where the value comes from: `from` is the kind of origin, `source` the name of the file or the variable."""
    origin = loaded.origins.of(path)
    if origin.kind == "default" and path in GENERATED and value is not None:
        return {"from": "generated", "source": str(instance_folder() / GENERATED[path])}
    return {"from": origin.kind, "source": origin.name or None}
