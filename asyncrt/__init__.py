"""asyncrt: a container engine that starts hundreds of containers at once and talks to them.

    async with asyncrt.connect() as rt:
        async with rt.run("host:", ["echo", "hello"]) as container:
            print(await container.stdout.read())

What outlives and spans containers lives here; what happens inside and beside one is in shimd. ARCHITECTURE.md has
the map; the rooms from the bottom: errors, model, metadata and snapshots, supervisor, engine, api and sdk, cli
and daemon. docs/sdk.md is for who writes programs with it.
"""

import importlib

__version__ = "0.1.0"

# Programs write asyncrt.connect; the command line, which imports this package too, pays for none of it (PEP 562).
# Type checkers read __init__.pyi.
_HOME = {
    "connect": "asyncrt.sdk.runtime",
    "Runtime": "asyncrt.sdk.runtime",
    "Container": "asyncrt.sdk.container",
    "Completed": "asyncrt.sdk.gather",
    "Failed": "asyncrt.sdk.many",
    "Group": "asyncrt.sdk.many",
    "Process": "asyncrt.sdk.process",
    "StdinClosed": "asyncrt.sdk.pipes",
    "Event": "asyncrt.model.events",
    "Exit": "asyncrt.model.container",
    "DeviceRate": "asyncrt.model.limits",
    "Limits": "asyncrt.model.limits",
    "Options": "asyncrt.model.options",
    "Pressure": "asyncrt.model.stats",
    "Volume": "asyncrt.model.options",
    "FROM_NOW": "asyncrt.model.protocol",
    "OLDEST": "asyncrt.model.protocol",
    "AsyncrtError": "asyncrt.errors",
    "BadImage": "asyncrt.errors",
    "BadRequest": "asyncrt.errors",
    "Conflict": "asyncrt.errors",
    "NoSuchObject": "asyncrt.errors",
    "RegistryFailed": "asyncrt.errors",
    "StartFailed": "asyncrt.errors",
    "StorageFailed": "asyncrt.errors",
    "TimedOut": "asyncrt.errors",
    "Unavailable": "asyncrt.errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'asyncrt' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
