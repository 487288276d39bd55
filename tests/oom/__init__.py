"""Who is said to have been killed for want of memory, proven on many: each that was, and none that was not.

    python -m tests.oom                  1000 that the kernel killed among 1000 that end with 137 by SIGKILL
    python -m tests.oom --each 60        fewer

`fates` is what containers do and what has to be told of them; tests/asyncrt/engine/test_oom.py runs it in CI.
"""
