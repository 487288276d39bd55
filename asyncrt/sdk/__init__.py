"""sdk: the native API from the client's side. It knows the protocol, never the engine.

    blocking    Client: one connection, calls and their answers, typed helpers (the command line uses it)

A Client lives inside a `with`; closing it cancels what waits and undoes nothing. The anyio client comes
beside it.
"""
