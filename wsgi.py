"""What gunicorn serves and `flask` finds: the application, made from the configuration in force."""

from click import ClickException

from gateway import create_app
from gateway.errors import ConfigurationError, LibraryMismatch

try:
    app = create_app()
except ConfigurationError as error:
    # Every `flask` command tells the mistakes then, without a traceback. gunicorn.conf.py told them before.
    raise ClickException("The configuration can't be used:\n" + error.listing()) from error
except LibraryMismatch as error:
    raise ClickException(error.listing()) from error
