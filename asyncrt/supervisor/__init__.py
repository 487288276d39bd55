"""supervisor: the processes beside the engine, and the conversations with them.

    zygote   the one zygote: exec'd first, fed templates and spawns, replaced when it dies
    task     one container's line to its shim: what it says, what it is asked
    line     a SEQPACKET socket in trio
    cgroups  the parent of all containers' cgroups, and what a dead shim left in it
    trees    mounts of the machine as fds, for namespaces that do not have them
    promise  a value that somebody waits for

A task here is containerd's word: the running instance of a container. Enters: the engine.
"""
