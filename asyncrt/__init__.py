"""asyncrt: a container engine that starts hundreds of containers at once and talks to them.

What outlives and spans containers lives here; what happens inside and beside one is in shimd. ARCHITECTURE.md has
the map; the rooms from the bottom: errors, model, metadata and snapshots, supervisor, engine, api and sdk, cli
and daemon.
"""

__version__ = "0.1.0"
