"""The names the spec allows, as sets. Which number the kernel gives a name is ``shimd.linux``'s to know."""


def _names(prefix: str, stems: str) -> frozenset[str]:
    return frozenset(prefix + stem for stem in stems.split())


NAMESPACES = _names("", "pid network mount ipc uts user cgroup time")

CLOCKS = _names("", "monotonic boottime")

# capabilities(7) as of Linux 6.12.
CAPABILITIES = _names(
    "CAP_",
    """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
    PERFMON BPF CHECKPOINT_RESTORE
    """,
)

RLIMITS = _names(
    "RLIMIT_",
    """
    AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK
    """,
)

SCHEDULER_POLICIES = _names("SCHED_", "OTHER FIFO RR BATCH ISO IDLE DEADLINE")
REALTIME_POLICIES = _names("SCHED_", "FIFO RR")
SCHEDULER_FLAGS = _names(
    "SCHED_FLAG_",
    "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX",
)

IO_PRIORITY_CLASSES = _names("IOPRIO_CLASS_", "RT BE IDLE")

# The spec has the first four; every engine writes the recursive ones too, and every runtime reads them.
PROPAGATIONS = _names("", "private shared slave unbindable rprivate rshared rslave runbindable")

PERSONALITIES = _names("", "LINUX LINUX32")

SECCOMP_ACTIONS = _names("SCMP_ACT_", "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY")
SECCOMP_ACTIONS_WITH_ERRNO = _names("SCMP_ACT_", "ERRNO TRACE")
SECCOMP_OPERATORS = _names("SCMP_CMP_", "NE LT LE EQ GE GT MASKED_EQ")
SECCOMP_FLAGS = _names("SECCOMP_FILTER_FLAG_", "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV")
SECCOMP_ARCHITECTURES = _names(
    "SCMP_ARCH_",
    """
    X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64
    PPC64LE S390 S390X SH SHEB PARISC PARISC64 RISCV64
    """,
)

MEMORY_MODES = _names("MPOL_", "DEFAULT BIND INTERLEAVE WEIGHTED_INTERLEAVE PREFERRED PREFERRED_MANY LOCAL")
MEMORY_MODES_WITHOUT_NODES = _names("MPOL_", "DEFAULT LOCAL")
MEMORY_MODES_WITH_NODES = _names("MPOL_", "BIND INTERLEAVE WEIGHTED_INTERLEAVE PREFERRED_MANY")
MEMORY_FLAGS = _names("MPOL_F_", "NUMA_BALANCING RELATIVE_NODES STATIC_NODES")

# Files of /proc/sys that have one value a namespace: ipc_namespaces(7), uts_namespaces(7).
IPC_SYSCTLS = _names("kernel/", "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced")
UTS_SYSCTLS = _names("kernel/", "hostname domainname")
