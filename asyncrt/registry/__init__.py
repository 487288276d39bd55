"""registry: OCI's distribution protocol from the client's side, over HTTP on trio.

Nouns: a *host* is a registry as people name it, an *endpoint* a URL where it (or a mirror of it) answers; a
*challenge* is what a 401 asks for, a *token* what a token server gives for it; a *repository* is a path on a host,
with blobs by digest and manifests by digest or tag.

    endpoints    where a host answers, and how it is trusted
    credentials  docker's config.json and its helper programs
    challenges   WWW-Authenticate, read
    tokens       who we are to one endpoint: basic or bearer
    addresses    where a redirect may lead
    dialing      connections, to addresses that were looked at
    exchange     one request and its answer, bounded in time and bytes; redirects
    attempts     what is tried again, and when
    failures     what an answer that is none of success means, in our words
    client       repositories: resolve, manifests, blobs, tags, referrers
    uploads      blobs to a registry: mounted, whole, in chunks

Lifecycle: `async with open_client(settings) as client`; its connections close with the block. Who enters: images
and the engine. Deliberately absent: documents (bytes and media types pass through here), files, the content store.
"""
