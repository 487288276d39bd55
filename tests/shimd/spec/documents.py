"""Documents that the tests of this room share: an everyday one, and one that has every property."""

import json
from typing import Any

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def usual() -> dict[str, Any]:
    """About what a runtime's ``spec`` command gives: the size and shape of an everyday config."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/dev/mqueue",
                "type": "mqueue",
                "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/sys",
                "type": "sysfs",
                "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
            },
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def full() -> dict[str, Any]:
    """Every property of the spec for Linux, none at its default, all of it valid together."""
    # Through JSON, so that no part is shared by two places: tests break them one by one.
    document: dict[str, Any] = json.loads(json.dumps(_full()))
    return document


def _full() -> dict[str, Any]:
    hook = {"path": "/bin/hook", "args": ["hook", "one"], "env": ["K=V"], "timeout": 5}
    throttle = [{"major": 8, "minor": 0, "rate": 1048576}]
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    kinds = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup")
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "/srv/rootfs", "readonly": True},
        "hostname": "box",
        "domainname": "example.org",
        "annotations": {"org.example.key": "value", "plain": ""},
        "hooks": {
            moment: [hook]
            for moment in (
                "prestart",
                "createRuntime",
                "createContainer",
                "startContainer",
                "poststart",
                "poststop",
            )
        },
        "process": {
            "terminal": True,
            "consoleSize": {"height": 25, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4], "username": "ignored"},
            "args": ["sh", "-c", "true"],
            "commandLine": "ignored",
            "env": ["PATH=/bin"],
            "cwd": "/tmp",
            "capabilities": {
                name: ["CAP_KILL"] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
            },
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2**64 - 1}],
            "noNewPrivileges": True,
            "apparmorProfile": "acme",
            "selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0",
            "oomScoreAdj": -100,
            "scheduler": {
                "policy": "SCHED_DEADLINE",
                "nice": 3,
                "priority": 0,
                "flags": ["SCHED_FLAG_RESET_ON_FORK"],
                "runtime": 1000,
                "deadline": 2000,
                "period": 3000,
            },
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
            "execCPUAffinity": {"initial": "0-3,7", "final": "0"},
        },
        "mounts": [
            {
                "destination": "/data",
                "type": "bind",
                "source": "/srv/data",
                "options": ["rbind", "idmap"],
                "uidMappings": ids,
                "gidMappings": ids,
            }
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds] + [{"type": "time", "path": ""}],
            "uidMappings": ids,
            "gidMappings": ids,
            "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 1}, "boottime": {"secs": 7, "nanosecs": 2}},
            "devices": [
                {
                    "type": "c",
                    "path": "/dev/fuse",
                    "major": 10,
                    "minor": 229,
                    "fileMode": 438,
                    "uid": 1,
                    "gid": 2,
                },
                {"type": "p", "path": "/dev/fifo"},
            ],
            "netDevices": {"eth0": {"name": "inside0"}},
            "cgroupsPath": "/group/box",
            "resources": {
                "devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
                "memory": {
                    "limit": 536870912,
                    "reservation": 536870912,
                    "swap": 1073741824,
                    "kernel": -1,
                    "kernelTCP": -1,
                    "swappiness": 0,
                    "disableOOMKiller": False,
                    "useHierarchy": False,
                    "checkBeforeUpdate": True,
                },
                "cpu": {
                    "shares": 1024,
                    "quota": 1000000,
                    "burst": 1000000,
                    "period": 500000,
                    "realtimeRuntime": 950000,
                    "realtimePeriod": 1000000,
                    "cpus": "2-3",
                    "mems": "0-7",
                    "idle": 0,
                },
                "pids": {"limit": 32771},
                "blockIO": {
                    "weight": 10,
                    "leafWeight": 11,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                    "throttleReadBpsDevice": throttle,
                    "throttleWriteBpsDevice": throttle,
                    "throttleReadIOPSDevice": throttle,
                    "throttleWriteIOPSDevice": throttle,
                },
                "hugepageLimits": [{"pageSize": "2MB", "limit": 209715200}],
                "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
                "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
                "unified": {"memory.high": "1073741824"},
            },
            "intelRdt": {
                "closID": "group",
                "schemata": ["L3:0=7f0;1=1f"],
                "l3CacheSchema": "L3:0=ffff0",
                "memBwSchema": "MB:0=20;1=70",
                "enableMonitoring": True,
                "enableCMT": True,
                "enableMBM": True,
            },
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-1", "flags": ["MPOL_F_STATIC_NODES"]},
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": 38,
                "architectures": ["SCMP_ARCH_X86_64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "listenerPath": "/run/listener.sock",
                "listenerMetadata": "whose",
                "syscalls": [
                    {
                        "names": ["getcwd", "chmod"],
                        "action": "SCMP_ACT_ERRNO",
                        "errnoRet": 1,
                        "args": [{"index": 1, "value": 2080505856, "valueTwo": 5, "op": "SCMP_CMP_MASKED_EQ"}],
                    }
                ],
            },
            "rootfsPropagation": "slave",
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0",
            "personality": {"domain": "LINUX32", "flags": []},
        },
    }
