"""snapshots: what a container's root file system is made of.

Nouns: a *source* is what an image reference of this machine names (a directory); a *snapshot* is one
container's writable layer over it, named by a *key* (the container's id); a *mount* is a value that says
how the two become one root.

    sources   "host:" and "rootfs:/PATH" to a Source; what a container must not see of the engine in it
    overlay   the snapshots on disk: prepare, keys, usage, remove
    removal   a tree that a container filled, removed on dirfds

Lifecycle: prepare (before the start), usage (while it lives), remove (after the end; behind the answer);
after a crash, keys() tells what is there, and what no record names is removed. Who enters: the engine, in
worker threads. Deliberately absent: mounting. What prepare() returns is mounted by the shim, in the
container's own namespace.
"""
