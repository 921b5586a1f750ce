"""What gunicorn needs of the gateway: the settings its workers start with, and how it reads and answers.

`settings` loads and checks them in the master, `connections` replaces what gunicorn would do differently from what the
README promises, on any of its workers.
"""
