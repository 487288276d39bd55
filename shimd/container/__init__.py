"""container: the low-level runtime, from a config to a running container.

    lifecycle   the states and what may happen in each: one table
    making      what one start carries from step to step: fds, paths, what is its own
    plan        config.json compiled to an ordered list of operations
    mounts, devices, namespaces, identity, cgroups
                the operations, small values with describe() and execute(), undo() for those done outside
    seccomp, scheduling, labels, netdevices, resctrl
                more of them: what a process is, beyond its user and its limits
    launch      the executor: outside steps, clone3, init's steps, exec; the sync socket between them
    entering    one more process in a running container

The only room where `linux` and `spec` meet. Nothing here outlives a container.
"""
