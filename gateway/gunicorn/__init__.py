"""How gunicorn serves the gateway: its settings, the worker, and how requests are read and responses written.

`settings` loads and checks the settings in the master, `master` extends gunicorn's master, `listeners` has the sockets.
`base_worker` starts a worker, `workers` serves and ends, `accepting` takes connections and `waiting` holds those that
wait for a request. `request_heads` and `request_bodies` read, `answers` writes, and `refusals` has the application
answer what can't be read.
"""
