"""The media types of images: OCI's and docker's, in tables.

Sources: OCI image-spec v1.1.1, media-types.md (with its table of compatible types); docker's "Image manifest v2,
schema 2" (https://distribution.github.io/distribution/spec/manifest-v2-2/).
"""

from __future__ import annotations

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

# What a registry is asked for, the newest first.
ACCEPTED = (OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST)

# A layer's type -> how its tar is compressed.
LAYERS = {
    OCI_LAYER: "",
    f"{OCI_LAYER}+gzip": "gzip",
    f"{OCI_LAYER}+zstd": "zstd",
    DOCKER_LAYER: "",
    f"{DOCKER_LAYER}.gzip": "gzip",
    f"{DOCKER_LAYER}.zstd": "zstd",
}

# What a registry's server says who does not know what it serves: then the document itself decides.
VAGUE = frozenset({"", "application/json", "application/octet-stream", "text/plain", "binary/octet-stream"})

_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
# Layers that stand elsewhere, at their descriptor's urls. Nobody fetches from there for us (CVE-2020-15157).
NONDISTRIBUTABLE = frozenset(
    {
        _NONDISTRIBUTABLE,
        f"{_NONDISTRIBUTABLE}+gzip",
        f"{_NONDISTRIBUTABLE}+zstd",
        _FOREIGN,
        f"{_FOREIGN}.gzip",
        f"{_FOREIGN}.zstd",
    }
)

# Documents of times past -> what they are called.
OUTDATED = {
    "application/vnd.docker.distribution.manifest.v1+json": "a docker schema 1 manifest",
    "application/vnd.docker.distribution.manifest.v1+prettyjws": "a docker schema 1 manifest",
    "application/vnd.oci.artifact.manifest.v1+json": "an artifact manifest of a draft of the spec",
}
