"""What gunicorn serves and `flask` finds: the application, made from the configuration in force."""

from gateway import create_app
from gateway.errors import CannotStart
from gateway.system.memory import build_without_garbage_collection

try:
    with build_without_garbage_collection():
        app = create_app()
except CannotStart as error:
    # `flask` commands then report the errors without a traceback. gunicorn.conf.py has already reported the same errors
    # when gunicorn starts.
    from gateway.cli.broken_configuration import application_for_help

    app = application_for_help(error)
