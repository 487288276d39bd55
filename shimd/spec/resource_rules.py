"""Rules about ``linux.resources``: for the config's, and for the resources document of an update.

Limits that only the kernel can judge (a period of 1 us, a memory node that is not there) are left to it.
"""

from collections.abc import Callable, Iterator

from shimd.spec.decode import key_step
from shimd.spec.errors import Finding
from shimd.spec.lists import is_cpu_list
from shimd.spec.resources import UNSET_SWAPPINESS, Resources

ResourceRule = Callable[[Resources, str], Iterator[Finding]]


def device_rules_are_complete(resources: Resources, at: str) -> Iterator[Finding]:
    """config-linux.md, "Allowed Device list": type a, b or c, access made of r, w and m."""
    for place, rule in enumerate(resources.devices):
        here = f"{at}.devices[{place}]"
        if rule.type not in ("", "a", "b", "c", "u"):
            yield Finding(f"{here}.type", f"expected a, b or c, got {rule.type!a:.40}")
        if strange := set(rule.access) - set("rwm"):
            # runc passes over a letter more, as in "rwa", and callers came to rely on it.
            known = bool(set(rule.access) - strange)
            yield Finding(f"{here}.access", f"expected letters of rwm, got {rule.access!a:.40}", fatal=not known)
        for name, number in (("major", rule.major), ("minor", rule.minor)):
            if number is not None and not -1 <= number < 1 << 32:
                yield Finding(f"{here}.{name}", f"expected a device number, got {number}", "-1 is any")


def memory_limits_agree(resources: Resources, at: str) -> Iterator[Finding]:
    """config-linux.md, "Memory": bytes or -1; swap counts memory too, so it is not below the limit."""
    memory = resources.memory
    amounts = {
        "limit": memory.limit,
        "reservation": memory.reservation,
        "swap": memory.swap,
        "kernel": memory.kernel,
        "kernelTCP": memory.kernel_tcp,
    }
    for name, amount in amounts.items():
        if amount is not None and amount < -1:
            yield Finding(f"{at}.memory.{name}", f"expected bytes or -1 for no limit, got {amount}")
    if memory.limit and memory.swap and 0 < memory.swap < memory.limit:
        problem = f"{memory.swap} is below the memory limit {memory.limit}"
        yield Finding(f"{at}.memory.swap", problem, "swap is the sum of memory and swap")
    if memory.limit == -1 and memory.swap and memory.swap > 0:
        yield Finding(f"{at}.memory.swap", "limits memory and swap, while memory has no limit")
    if memory.swappiness is not None and 100 < memory.swappiness != UNSET_SWAPPINESS:
        yield Finding(f"{at}.memory.swappiness", f"expected 0 to 100, got {memory.swappiness}")


def cpu_numbers_agree(resources: Resources, at: str) -> Iterator[Finding]:
    """config-linux.md, "CPU": a burst fits its quota, idle is 0 or 1, lists are such as 0-3,7."""
    cpu = resources.cpu
    if cpu.quota is not None and cpu.quota < -1:
        yield Finding(f"{at}.cpu.quota", f"expected microseconds or -1 for no limit, got {cpu.quota}")
    if cpu.burst and cpu.quota and 0 < cpu.quota < cpu.burst:
        yield Finding(f"{at}.cpu.burst", f"{cpu.burst} is above the quota {cpu.quota}")
    if cpu.idle not in (None, 0, 1):
        yield Finding(f"{at}.cpu.idle", f"expected 0 or 1, got {cpu.idle}")
    for name, entries in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if entries and not is_cpu_list(entries):
            yield Finding(f"{at}.cpu.{name}", f"{entries!a:.60} is no list of numbers", "as in 0-3,7")


def pids_limit_is_a_count(resources: Resources, at: str) -> Iterator[Finding]:
    """config-linux.md, "PIDs": a count, -1 for no limit."""
    limit = resources.pids.limit
    if limit is not None and limit < -1:
        yield Finding(f"{at}.pids.limit", f"expected a count or -1 for no limit, got {limit}")


def io_weights_are_in_range(resources: Resources, at: str) -> Iterator[Finding]:
    """config-linux.md, "Block IO": weights 10 to 1000 (0: engines' word for unset), one at least a device."""
    block = resources.block_io
    weights = [(f"{at}.blockIO", block.weight, block.leaf_weight)]
    for place, device in enumerate(block.weight_device):
        here = f"{at}.blockIO.weightDevice[{place}]"
        weights.append((here, device.weight, device.leaf_weight))
        if device.weight is None and device.leaf_weight is None:
            yield Finding(here, "has neither weight nor leafWeight")
    for here, weight, leaf_weight in weights:
        for name, value in (("weight", weight), ("leafWeight", leaf_weight)):
            if value and not 10 <= value <= 1000:
                yield Finding(f"{here}.{name}", f"expected 10 to 1000, got {value}")


def page_sizes_have_units(resources: Resources, at: str) -> Iterator[Finding]:
    """config-linux.md, "Huge page limits": a size such as 2MB. It becomes part of a file name."""
    for place, limit in enumerate(resources.hugepage_limits):
        number, unit = limit.page_size[:-2], limit.page_size[-2:]
        if not (number.isascii() and number.isdigit()) or number[0] == "0" or unit not in ("KB", "MB", "GB"):
            problem = f"{limit.page_size!a:.40} is no page size"
            yield Finding(f"{at}.hugepageLimits[{place}].pageSize", problem, "as in 2MB")


def rdma_entries_limit_something(resources: Resources, at: str) -> Iterator[Finding]:
    """config-linux.md, "RDMA": handles, objects or both."""
    for device, limits in resources.rdma.items():
        if limits.hca_handles is None and limits.hca_objects is None:
            yield Finding(f"{at}.rdma{key_step(device)}", "has neither hcaHandles nor hcaObjects")


def unified_keys_are_file_names(resources: Resources, at: str) -> Iterator[Finding]:
    """config-linux.md, "Unified": keys are files of the container's own cgroup, not of another one, and limit it."""
    for name in resources.unified:
        here = f"{at}.unified{key_step(name)}"
        if "/" in name or "." not in name.strip("."):
            yield Finding(here, "is no file of a cgroup", "as in memory.high")
        if name in ("cgroup.procs", "cgroup.threads", "cgroup.kill"):
            yield Finding(here, "moves or kills processes, and limits nothing")


RESOURCE_RULES: tuple[ResourceRule, ...] = (
    device_rules_are_complete,
    memory_limits_agree,
    cpu_numbers_agree,
    pids_limit_is_a_count,
    io_weights_are_in_range,
    page_sizes_have_units,
    rdma_entries_limit_something,
    unified_keys_are_file_names,
)
