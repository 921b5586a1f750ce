"""What the gateway does with the system below it: processes, threads, sockets, folders, memory, and their ends.

`background` and `threads` run what must not hold up requests, `processes` starts programs, `folders` keeps what is
temporary, `sockets` knows every kind of socket; `memory` and `exhaustion` tell of what runs out, `ending` that it is
over, by `flags` that all processes see. `connecting` makes connections, `standard_error` has nobody wait for a reader.
`time_slice` shares a worker's time among its greenlets.
"""
