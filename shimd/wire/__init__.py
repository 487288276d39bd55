"""wire: what supervisor, zygote, shim and init say to each other.

    messages  every message type, drawn as arrows, and their encoding (msgpack, versioned)
    values    what messages carry: root mounts, exit records
    channel   one SOCK_SEQPACKET socket: a message a packet, file descriptors beside it

Sans-IO where it can be: `messages` knows no socket, so that a trio supervisor and a poll-driven shim share it.
"""
