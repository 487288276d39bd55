"""api: the native door, msgpack frames on a unix socket (model/protocol.py has the conversation).

    server    connections, frames, credentials
    handlers  a request each: what it asks of the engine, what it answers

Enters: the SDK and the command line, over the socket; the daemon builds it.
"""
