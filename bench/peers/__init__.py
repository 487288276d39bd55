"""The engines under measurement, one file each; `peer.Peer` says what all of them must do.

Lifecycle of a peer in one turn: `up` (its daemon, if it has one) -> `start(n)` -> `remove()` ->
`complete(n)` -> `down`. A peer never measures: `bench.turn` does, the same way for all.
"""
