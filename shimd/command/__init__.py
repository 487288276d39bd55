"""command: `asyncrt-oci`, an OCI runtime with runc's command line, for podman, containerd, dockerd and people.

    main      the global flags, the verb, how a failure is told
    verbs     the verbs and their flags: one table; a file of that name does the work
    flags     words of the command line to values
    journal   what --log and --log-format ask for
    shelf     ROOT/ID: the directory of a container and its lock
    record    what is written there
    status    what the kernel says of it
    members   the container's cgroups: who is in, freeze, kill
    birth     create and run: from a bundle to an init that waits
    removal   delete, and the undoing of what failed
    foreground, terminal
              who stays: signals forwarded, a terminal carried

Every command is a process of its own and none stays behind. Imports are the cost of a command: a file here imports
what all its callers need, and the rest where it is used.
"""
