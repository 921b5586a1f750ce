"""What gunicorn needs of the gateway: the settings its workers start with, and how it reads and answers.

`settings` loads and checks them in the master, `connections` has the class that writes responses, `workers` gunicorn's
workers with problem documents for what their parser refuses.
"""
