"""What gunicorn serves and `flask` finds: the application, made from the configuration in force."""

from gateway import create_app

app = create_app()
