"""server: the processes that live outside the container.

    zygote   one per supervisor: keeps plans, forks shims
    shim     one per container: the event loop over its fds, its lifecycle
    streams  stdout and stderr: pipe to log, log to subscribers; stdin
    record   the exit record: what the kernel knew, written before it is announced
    execs    further processes of the container

One thread, blocked in poll; nothing is polled by time but a full disk.
"""
