"""Why asyncrt-oci does not pass a case of a foreign suite: suite, then "file: case" (fnmatch) to the reason.

Whatever fails and is not here is a fault. ``taps.py reasons FOLDER`` prints a run's failures and skips with theirs.
"""

from fnmatch import fnmatchcase

HELP = "wording of crun's help, which no caller reads"
TERMINAL = "fails with crun itself, by the suite's own fault (its helper has no isatty, it lacks --console-socket)"
V2 = "cgroup v2 only"
MACHINE = "this machine: fails with crun itself"
STEERS = "crun's own annotation: what may come from an image does not steer the runtime"

RUNC = {
    "checkpoint: *": "checkpoint and restore do not exist (criu is not there either)",
    "spec: spec validator": "clones a repository from the network",
}
CRUN = {
    "test_exec: exec_write_pid_file": "fails with crun itself",
    "test_exec: exec_add_no_new_privileges": "an exec without the config's noNewPrivileges: as with runc, it has them",
    "test_exec: exec-add-capability": f"{MACHINE}, which lacks a capability",
    "test_capabilities: unknown-caps": f"{MACHINE}, which lacks a capability",
    "test_cgroup_setup: cgroup-hugetlb": "a limit whose controller is missing is an error here; fails with crun itself",
    "test_commands: version-command": "wants the word crun in --version",
    "test_commands: state-created": "at times: asks while create is under way, and is told `creating`",
    "test_tty: test-detach-tty": "has a number among process.args, which the spec gives strings",
    "test_hooks: test-createContainer-hook-after-mounts": "wants the bundle as cwd; runc's suite wants the root",
    "test_hooks: test-annotation-hook-stdout-stderr": f"{STEERS}, and this one writes files of the machine",
    "test_uid_gid: keep-groups": f"{STEERS}, and this one leaves groups to it",
    "test_seccomp: seccomp-listener": "wants a listener where nothing notifies, for which the spec has none",
    "test_seccomp: (case 12)": "seccomp-listener, which waits for it for ever",
    "test_checkpoint_restore: *": "checkpoint and restore do not exist",
    "test_mounts: mount-tmpfs-to-rootfs": "wants tmpcopyup on / refused, which works here; fails with crun 1.28",
    "test_mounts: mount-add-remove-mounts": "crun's own verb `mounts`",
    "test_mounts: mount-propagation-slave": "wants shared mounts of the machine; fails with crun itself",
    "test_mounts: (none run)": "wants Python's libmount: see prepare.sh",
    "test_scheduler: scheduler-fifo": f"{MACHINE}: cgroup v1 gives a new cgroup no real-time budget",
    "test_scheduler: scheduler-rr": f"{MACHINE}: cgroup v1 gives a new cgroup no real-time budget",
    "test_scheduler: scheduler-flags": f"{MACHINE}: cgroup v1 gives a new cgroup no real-time budget",
    "test_start: start": "reads crun's own status file",
    "test_start: help": HELP,
    "test_exec: exec-help": HELP,
    "test_mounts: mount-help": HELP,
    "test_delete: test_help_delete": HELP,
    "test_oci_features: crun-features": "compares with crun's own list",
    "test_terminal: terminal-allocation": TERMINAL,
    "test_terminal: console-socket": TERMINAL,
    "test_terminal: terminal-detach": TERMINAL,
    "test_terminal: terminal-exec*": TERMINAL,
    "test_devices: net-devices": "wants os.setns of Python 3.12; fails with crun itself",
    "test_linux_features: mount-label": "a label where there is no SELinux is an error here",
    "test_start: sd-notify-proxy": "runs only under systemd",
    "test_start: systemd-cgroups-path-def-slice": "runs only under systemd",
    "test_start: run-rootless-netns-with-userns": "for a caller who is not root",
    "test_resources: resources-unified*": V2,
    "test_resources: resources-cpu-weight*": V2,
    "test_resources: resources-fail-with-enoent": V2,
    "test_update: test-update": "runs only under systemd",
}

SUITES = {"runc": RUNC, "crun": CRUN}


def reason(suite: str, case: str) -> str | None:
    """The reason for "file: case" of a suite's folder name, None where there is none."""
    table = SUITES.get(suite.replace("_", "-").partition("-")[0], {})
    plain = case.replace("[", "<")
    return next((why for pattern, why in table.items() if fnmatchcase(plain, pattern.replace("[", "<"))), None)
