"""What gunicorn serves and `flask` finds: the application, made from the configuration in force."""

from gateway import create_app
from gateway.errors import ConfigurationError, LibraryMismatch

try:
    app = create_app()
except (ConfigurationError, LibraryMismatch) as error:
    # Every `flask` command tells the mistakes then, without a traceback. gunicorn.conf.py told them before.
    from gateway.cli.refusal import application_for_help

    app = application_for_help(error)
