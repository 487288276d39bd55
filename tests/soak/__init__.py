"""Many runs of print-and-exit while the supervisor is killed over and over: is every byte there, once, and every code?

    python -m tests.soak --runs 100000 --pause 30        `just soak`: the long form, hours
    python -m tests.soak --runs 3000 --pause 2           minutes
    tests/soak/test_soak.py                              seconds, in CI

`deeds` is what one run is (attached, detached, exec) and how its client goes on when the supervisor dies under it;
`reckoning` counts what went wrong; `__main__` has the workers and the killer. The client is the blocking SDK's, by the
rules that every client can follow: docs/walks/restart.md.
"""
