"""model: the words that faces, engine and stores share, as frozen values.

options     what a caller asks for
container   the record of one container, its exit record, its timeline
events      what happened, with a sequence number
protocol    the native API: requests, replies, frames with file descriptors
digest      sha256:... parsed, computed and compared
descriptor  what refers to a blob: media type, digest, size
reference   how an image is named, by docker's rules
media_types OCI's and docker's names of documents, configs and layers
platform    what a machine runs, and which of an image's platforms that is
image       what is remembered of images: names, leases, edges
quantities  sizes and counts as people write them (512m, 1.5)
"""
