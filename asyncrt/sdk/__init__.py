"""sdk: the native protocol from the client's side, for programs (anyio) and for the command line (blocking).

runtime     connect() and what it gives: containers of a block, many at once, events
container   a container's handle; streams, process (exec), gather, following (logs, events), many
connection  calls in an event loop, and the way to the next supervisor
blocking    the same calls, waiting in poll(2)
exchange    the calls that are open on one socket; answer: what came of one; neither waits
logs        a log's files, read back; pipes: fds in an event loop
door        connects, and starts the supervisor where none runs; places: where it lives
"""
