"""The system calls that a container may make when nobody asked for anything else: a table by purpose.

What is in no row fails with EPERM; what is younger than all rows fails with ENOSYS, so that a C library tries what it
knew before. Each row says why it is harmless to the machine: either it acts on the caller and on what it holds
already, or the kernel asks for a capability that the container has not. The decisions are Docker's (moby/profiles,
seccomp, as of 2026), reached row by row; tests/asyncrt/engine/test_seccomp.py compares them with a profile that a
distribution ships.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """`calls` are names, separated by blanks."""

    purpose: str
    calls: str


ALLOWED = (
    Row(
        "files by descriptor: whoever opened them was asked",
        "read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 close close_range lseek _llseek "
        "dup dup2 dup3 fcntl fcntl64 ioctl flock fsync fdatasync sync_file_range sync_file_range2 "
        "arm_sync_file_range ftruncate ftruncate64 fallocate fadvise64 fadvise64_64 arm_fadvise64_64 readahead "
        "sendfile sendfile64 copy_file_range splice tee vmsplice cachestat",
    ),
    Row(
        "files by path: the root file system is the container's own, permissions are asked as for anybody",
        "open openat openat2 creat access faccessat faccessat2 stat stat64 lstat lstat64 fstat fstat64 fstatat64 "
        "newfstatat statx statfs statfs64 fstatfs fstatfs64 truncate truncate64 readlink readlinkat getcwd chdir "
        "fchdir name_to_handle_at",
    ),
    Row(
        "directories and names; mknod asks for CAP_MKNOD, and the cgroup's device rules ask again on open",
        "mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 "
        "getdents getdents64 umask",
    ),
    Row(
        "owners, modes, times and attributes of files",
        "chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 utime utimes "
        "utimensat utimensat_time64 futimesat getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr "
        "llistxattr flistxattr removexattr lremovexattr fremovexattr getxattrat setxattrat listxattrat "
        "removexattrat",
    ),
    Row("write back what is cached: costs time that the container's own I/O could cost too", "sync syncfs"),
    Row(
        "changes of files: fanotify_mark needs a descriptor of fanotify_init, which has a row of its own below",
        "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    ),
    Row(
        "asynchronous I/O of the old kind, which acts on descriptors; io_uring is left out: its holes were many",
        "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64",
    ),
    Row(
        "waiting for descriptors",
        "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl "
        "epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 pipe pipe2",
    ),
    Row(
        "the caller's own memory, locked pages within its limit",
        "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall "
        "remap_file_pages membarrier memfd_create memfd_secret pkey_alloc pkey_free pkey_mprotect mseal "
        "map_shadow_stack",
    ),
    Row(
        "processes: begin, end, wait; clone is below, by its flags",
        "fork vfork execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill pidfd_open "
        "pidfd_send_signal process_mrelease restart_syscall",
    ),
    Row(
        "who one is, as capabilities allow",
        "getpid getppid gettid getpgid getpgrp setpgid getsid setsid getuid getuid32 geteuid geteuid32 getgid "
        "getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32 getgroups getgroups32 setuid "
        "setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid "
        "setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset",
    ),
    Row(
        "to bind oneself: these take rights and never give any",
        "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self prctl",
    ),
    Row(
        "threads and locks",
        "futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue get_robust_list set_robust_list "
        "set_tid_address get_thread_area set_thread_area set_tls rseq arch_prctl modify_ldt uretprobe",
    ),
    Row(
        "signals",
        "rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 "
        "rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn sigaltstack sigprocmask sigreturn signalfd signalfd4 pause",
    ),
    Row(
        "time; adjtimex and clock_adjtime read, and ask for CAP_SYS_TIME to write",
        "time times gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep "
        "clock_nanosleep_time64 nanosleep adjtimex clock_adjtime clock_adjtime64 alarm getitimer setitimer "
        "timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 "
        "timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    ),
    Row(
        "scheduling: raising anything asks for CAP_SYS_NICE",
        "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam "
        "sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval "
        "sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set getcpu",
    ),
    Row(
        "limits and what was used; raising a hard limit asks for CAP_SYS_RESOURCE",
        "getrlimit setrlimit ugetrlimit prlimit64 getrusage sysinfo uname",
    ),
    Row(
        "sockets: the network namespace is the container's own; which families is below",
        "socketcall socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt "
        "send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 shutdown",
    ),
    Row(
        "System V and POSIX IPC: the IPC namespace is the container's own",
        "ipc msgget msgctl msgsnd msgrcv semget semctl semop semtimedop semtimedop_time64 shmget shmat shmctl shmdt "
        "mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive "
        "mq_timedreceive_time64",
    ),
    Row(
        "debuggers and profilers: since Linux 4.8 ptrace cannot leave a filter",
        "ptrace process_vm_readv process_vm_writev",
    ),
    Row("random numbers", "getrandom"),
    Row("the container's own mounts, to read", "statmount listmount"),
    Row("what single processors have", "breakpoint cacheflush swapcontext riscv_flush_icache riscv_hwprobe"),
    Row("IBM's PCI and instrumentation", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
)

# Calls that the kernel refuses without the capability anyway, or has refused too late now and then: who was given the
# capability was meant to make them.
WITH_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
    "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd "
    "setdomainname sethostname setns syslog umount umount2 unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

# clone(2) without any of CLONE_NEW*: a user namespace opens every corner of the kernel that asks for capabilities
# in one. clone3 hides its flags behind a pointer, where no filter sees them: it seems to be missing.
CLONE_NEW_ANY = 0x7E020000

# personality(2): Linux, Linux on 32 bits, each with UNAME26 as well, and the question which it is. Not among them:
# ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, with which exploits begin.
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# Families without a namespace: AF_ALG (its holes) and AF_VSOCK (the hypervisor's host, whichever namespace asks).
# Here as what is left: below 38, 39 itself, above 40.
AF_ALG, AF_VSOCK = 38, 40
