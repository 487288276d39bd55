"""Trees of cgroups as machines have them, and resources to keep in them."""

from typing import Any

from shimd.linux.cgroups import Hierarchy
from shimd.spec.resources import Resources
from shimd.spec.validate import load
from tests.shimd.configs import config

CONTROLLERS = "cpu,cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls net_prio rdma"
V1 = [Hierarchy(1, f"/cg/{name}", tuple(name.split(","))) for name in CONTROLLERS.split()]
V2 = [Hierarchy(2, "/sys/fs/cgroup", ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"))]
MIB = 1 << 20
RATE = [{"major": 8, "minor": 0, "rate": 1000}]
EVERYTHING: dict[str, Any] = {
    "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
    "cpu": {
        "shares": 512,
        "quota": 25000,
        "period": 50000,
        "burst": 10000,
        "cpus": "0-1",
        "mems": "0",
        "idle": 1,
    },
    "pids": {"limit": 17},
    "blockIO": {
        "weight": 500,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
        "throttleReadBpsDevice": RATE,
        "throttleWriteBpsDevice": RATE,
        "throttleReadIOPSDevice": RATE,
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}],
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
    "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 7}},
}


def read(resources: dict[str, Any]) -> Resources:
    """The resources of a config that asks for these."""
    return load(config("sh", linux={"resources": resources})).linux.resources
