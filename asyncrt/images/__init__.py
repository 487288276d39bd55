"""images: what an image is, and how a whole one comes and goes.

Nouns: a *manifest* is one image (a config, layers), an *index* several, mostly one a platform; an *Image* is the
result of choosing: the documents and descriptors of one platform, with every blob in the store; a *layout* (OCI)
and an *archive* (docker) are images as files.

    decoding     bounded JSON to values, errors in our words
    documents    manifests and indexes; what is ambiguous is refused
    config       the image config
    conversion   image config -> what a container of it runs with
    selection    which of an index's manifests a machine takes
    blobs        what is asked of a content store
    progress     how far each blob is, as values on a channel
    fetching     one fetch a digest, however many wait for it
    image, pull, push   a whole image between a registry and the store
    whole               the same with every platform, for who moves images and runs none
    unpacking           a whole image from the store to layers that containers stand on
    loading, saving     archives: docker's and OCI's in one
    layout              OCI's layout as a directory
    docker_archive, plain_directory     docker's old archive, skopeo's dir:
    formats             docker's documents as OCI's, and back
    tarball, together   how a tar is written; several jobs, one failure

Who enters: the engine. Deliberately absent: labels and annotations decide nothing.
"""
