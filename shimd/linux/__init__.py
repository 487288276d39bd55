"""linux: the kernel, one wrapper per system call.

Takes ints, strings and fds and knows nothing of OCI. A wrapper bears the call's name and raises
OSError(errno, text, subject). Everything is bound at import, so that nothing is looked up after fork.

    libc          how a system call is made
    mounts        old and new mount API, pivot_root
    processes     clone3, pidfd, setns, unshare, prctl, close_range, waiting, rlimits
    identity      uids, gids, capabilities
    signals       masks, signalfd, dispositions
    paths         openat2: resolution that cannot leave a root
    cgroups       hierarchies of v1 and v2: create, enter, read, remove
    stats         what cgroups count: usage, limits, events
    notices       how cgroups tell that a limit did something
    netdevice     the loopback link
    rtnetlink     links and addresses: move, set up
    scheduling    policies, I/O priorities, memory nodes
    seccomp       libseccomp as a compiler, seccomp(2) as the loader
    filters       what a filter's program decides, and the shortest that does so
    procfs        the machine's own /proc, and proof that it is
    executables   the program that runs here, out of a container's reach
"""
