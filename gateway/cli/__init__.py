"""The `flask` commands of the gateway."""
from flask import Flask
from gateway.config import Settings
def register_commands(app: Flask, settings: Settings) -> None: ...
