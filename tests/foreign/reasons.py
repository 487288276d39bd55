"""Why asyncrt-oci does not pass a case of a foreign suite: suite, then "file: case" (fnmatch) to the reason.

Whatever fails and is not here is a fault. ``taps.py reasons FOLDER`` prints a run's failures and skips with theirs.
"""

from fnmatch import fnmatchcase

HELP = "wording of runc's help, which no caller reads"
TERMINAL = "fails with crun itself, by the suite's own fault (its helper has no isatty, it lacks --console-socket)"
HOME = "to be mended: HOME out of the container's passwd where env has none"
V2 = "cgroup v2 only"

MEND = "to be mended: "

RUNC = {
    "checkpoint: *": "checkpoint and restore do not exist (criu is not there either)",
    "spec: spec validator": "clones a repository from the network",
}
CRUN = {
    "test_delete: test_simple_delete": "freezes the container in a cgroup of its own; fails with crun itself",
    "test_exec: exec_write_pid_file": "fails with crun itself",
    "test_devices: owner-device": f"{MEND}the node's directory is not there",
    "test_exec: exec-add-environment_variable": HOME,
    "test_exec: exec_populate_home_env_from_process_uid": HOME,
    "test_start: empty-home": HOME,
    "test_exec: exec_add_no_new_privileges": f"{MEND}exec --no-new-privs",
    "test_hooks: test-hook-env-inherit": f"{MEND}a hook without env has crun's own environment",
    "test_preserve_fds: preserve-fds-some": f"{MEND}a number that is not open is refused",
    "test_start: uts-sysctl": f"{MEND}names of the machine by way of sysctl",
    "test_tty: test-detach-tty": "has a number among process.args, which the spec gives strings",
    "test_uid_gid: keep-groups": "crun's own annotation run.oci.keep_original_groups",
    "test_checkpoint_restore: *": "checkpoint and restore do not exist",
    "test_start: start-override-config": "crun's --config FILE: runc's command line has no such flag",
    "test_start: start": "reads crun's own status file",
    "test_start: help": HELP,
    "test_exec: exec-help": HELP,
    "test_delete: test_help_delete": HELP,
    "test_delete: test_multiple_containers_delete": "crun's delete --regex",
    "test_commands: version-command": "wants crun's commit in --version",
    "test_oci_features: crun-features": "compares with crun's own list",
    "test_terminal: terminal-allocation": TERMINAL,
    "test_terminal: console-socket": TERMINAL,
    "test_terminal: terminal-detach": TERMINAL,
    "test_terminal: terminal-exec*": TERMINAL,
    "test_devices: net-devices": "wants os.setns of Python 3.12",
    "test_start: sd-notify*": "runs only where --version says +SYSTEMD",
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
