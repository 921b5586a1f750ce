"""`flask config`: the configuration in force, and where each value comes from."""

from __future__ import annotations

import json
from typing import Any

import click

from gateway.cli.table import print_table, printable
from gateway.config import Settings
from gateway.config.environment import names_from_dotenv
from gateway.config.load import Loaded, instance_folder, load
from gateway.config.origins import leaves_of
from gateway.config.places import Place, full_name
from gateway.config.sources import is_name_of_a_setting
from gateway.status.redaction import masked_configuration

# What `with_keys` adds where nothing is configured.
GENERATED: dict[Place, str] = {("jwt", "secret"): "jwt-secret", ("identity", "private_key_file"): "identity-key.pem"}


def config_command(settings: Settings) -> click.Command:
    @click.command("config")
    @click.option("--json", "as_json", is_flag=True, help="Print it as a JSON document.")
    def config(as_json: bool) -> None:
        """Print the configuration in force, without secrets, each value with where it comes from."""
        for name in sorted(filter(is_name_of_a_setting, names_from_dotenv())):
            click.echo(f"{name} of .env is not used: neither commands nor the server read that file.", err=True)
        loaded = load()
        values = [
            {"name": full_name(place), "value": value, **origin_of(place, value, loaded)}
            for place, value in leaves_of(masked_configuration(settings))
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

    return config


def origin_of(place: Place, value: Any, loaded: Loaded) -> dict[str, str | None]:
    """`from` is the kind of origin, `source` the name of the file or the variable."""
    origin = loaded.origins.of(place)
    if origin.kind == "default" and place in GENERATED and value is not None:
        return {"from": "generated", "source": str(instance_folder() / GENERATED[place])}
    return {"from": origin.kind, "source": origin.name or None}
