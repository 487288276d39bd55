"""snapshots: what a container's root file system is made of.

Nouns: a *source* is what an image reference of this machine names (a directory, or a stack of them); a *snapshot*
is one container's writable tree over it, named by a *key* (the container's id); a *layer* is a committed tree, named
by its chainID; a *mount* is a value that says how they become one root.

    sources   "host:" and "rootfs:/PATH" to a Source; what a container must not see of the engine in it
    active    the snapshots on disk: prepare, keys, usage, remove
    init_layer  the files of a root that are the container's own     stack   layers merged without a mount
    shelf     the layers on disk: begin, commit, drop, trees, remove; sweep and settle
    overlay   both, as overlayfs stacks them      inherit   what a layer leaves unsaid about directories
    native    both, as whole copies               copying   a tree as it is
    removal   a tree that a container filled, removed on dirfds

Overlay and Native have one contract and one suite (tests/asyncrt/snapshots/test_contract.py):

    begun = snapshots.begin(chain, parent)          # then the layer's tar goes into begun.tree, as snapshots.style
    snapshots.commit(begun, implicit)               # or snapshots.layers.drop(begun)
    source = snapshots.source(chain)
    mounts = snapshots.prepare(["0123abcd"], source, read_only=False)

Lifecycle: prepare (before the start), usage (while it lives), remove (after the end; behind the answer);
after a crash, keys() tells what is there, and what no record names is removed; layers.sweep() does it for layers.
Who enters: the engine and images, in worker threads. Deliberately absent: mounting. What prepare() returns is mounted
by the shim, in the container's own namespace.
"""
