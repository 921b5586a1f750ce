"""The operating system: processes, threads, sockets, folders, memory and signals.

`processes` starts programs, `threads` and `native_threads` run work in the background, `fair_scheduling` shares a
worker's time among its greenlets. `dns` and `tcp` make connections within a deadline, `sockets` handles any kind of
socket. `stderr` and `pipe_messages` write messages without blocking. `folders` has temporary folders, `cleanup` runs
functions at exit. `shutdown` announces the exit with a `shared_flag` that all processes see. `cpus` and `memory`
measure resources, and `resource_exhaustion` reports that the system refuses further ones."""
