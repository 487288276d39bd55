"""content: bytes by digest, and nothing about what they mean.

Nouns: a *blob* is a file named by its digest; an *ingest* is one on its way, named by a *ref* of its writer's, which
survives the writer; a *hold* keeps blobs from collection while somebody is about to refer to them.

    store     the blobs: opened (verified), read, listed, removed
    ingest    one writer's way to a blob: resumed, checked, committed once
    jobs      the same for trio
    collect   what may go: marking is a value, sweeping leaves what is in flight

Lifecycle: ingest -> write ... -> commit -> (settle, behind the answer) -> open ... -> collect. Who enters: images and
the engine, in worker threads. Deliberately absent: manifests, images, names; the metadata room knows those, and gives
what refers to what as a value.
"""
