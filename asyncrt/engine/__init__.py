"""engine: the use cases, and the policy that they share.

policy        the wish (model.Options) to an OCI config; with its parts:
defaults      Docker's tables
capabilities  --cap-add, --cap-drop
users         --user, by the image's files
limits        --memory, --cpus, --cpuset-cpus, --pids-limit
volumes       --volume
"""
