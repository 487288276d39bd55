"""layers: the tars that images are made of, read into directories and written from them.

Nouns: an *entry* is one member of a tar; a *feed* is the uncompressed bytes as they come, their digests computed by
the way; a *style* says what a whiteout becomes (overlay's device, or the removal of what lies below); a *blob* here is
an open file, wherever it came from.

    limits        how much of everything a layer may have
    feed          bytes in chunks, taken by blocks and pieces
    inflate       gzip, zstd or plain to a feed, in a thread of its own; digest and diffID
    numbers       the numbers and pax records of tar headers
    sparse        the three forms of sparse files
    reader        a feed to entries
    directories   directories of the tree, opened beneath its root, kept for the next entry
    extract       entries to files
    apply         all of that for one layer: verified, bounded, undone by nobody (the snapshot is dropped)
    writer        entries to a tar
    changes       what an upper layer, or one tree against another, says
    patient       others' fds, without waiting for ever
    upper         an upper layer against what lies below: its changes, diff's lines, the merged tree
    deflate       a tar to gzip or zstd, with digest and diffID

Lifecycle: apply(blob, directory, ...) in a worker thread, once a layer; diff in one too. Who enters: images and the
engine. Deliberately absent: paths of containers or images that the kernel resolves outside the tree; names of users
(owners are numbers); mounting.
"""
