"""metadata: what must be known after a crash, in one SQLite file.

Nouns: a *record* is a model.Container as it was last heard of; an *event* is what happened, with its number;
a *change* is a wish to put or drop a record or to append an event; a *batch* is what one transaction takes.

    changes   what may change: records, events, names of images, leases, edges
    shelves   the tables of images
    names     which name belongs to which container, with undo
    schema    the tables and the migrations between their versions
    failures  SQLite's errors in our words
    store     the file: opened, read, written; synchronous
    writer    the one writer, in trio: group commit

Lifecycle: `async with open_writer(path) as writer` opens and locks the file (one process at a time), reads
(`writer.store`, before the first change), then commits until the block ends. Who enters: the daemon builds
the writer, the engine gives it changes. Deliberately absent: queries over live containers; the engine holds
those in memory.
"""
