"""The values that messages carry: what a root is made of, how something ended."""

from __future__ import annotations

from typing import NamedTuple


class RootMount(NamedTuple):
    """A mount that makes up the root file system (containerd's rootfs mounts), done in the container's namespace.

    overlay: `lower` from top to bottom, with `upper` and `work`; bind: `lower` holds the one source.
    """

    kind: str
    lower: list[str]
    upper: str = ""
    work: str = ""
    read_only: bool = False


class LogWish(NamedTuple):
    """What is done with a container's output.

    `form`: native, json-file, cri or none (the names of asyncrt.model.options.LogFormat). `bound` in bytes, 0 for none:
    of a rotated file, of which there are `files`, and bound * files of the native log.
    """

    form: str = "native"
    bound: int = 0
    files: int = 1


class ExitRecord(NamedTuple):
    """How a container or an exec ended. Times in nanoseconds (wall clock since 1970), sizes in bytes.

    `lost` names the reason where nobody saw the end (the shim was killed, the machine rebooted): then `code` is
    what was assumed, not what was seen. `failed` is the line of a start that failed. memory_peak, oom_kills,
    cpu_ns, throttled_ns, memory_hits and fork_failures are -1 where the kernel did not say. `oom_cgroup` is whose limit
    killed ("/": the machine ran out); `memory_hits` is how often the memory limit held something back, `fork_failures`
    how often that on processes did.
    """

    code: int
    signal: int = 0
    core: bool = False
    started_ns: int = 0
    ended_ns: int = 0
    cpu_ns: int = -1
    memory_peak: int = -1
    oom_kills: int = -1
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    lost: str = ""
    failed: str = ""
    oom_cgroup: str = ""
    throttled_ns: int = -1
    memory_hits: int = -1
    fork_failures: int = -1
