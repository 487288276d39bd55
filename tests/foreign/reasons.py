"""Why asyncrt-oci does not pass a case of a foreign suite: suite, then "file: case" (fnmatch) to the reason.

Whatever fails and is not here is a fault. ``taps.py reasons FOLDER`` prints a run's failures and skips with theirs.
"""

from fnmatch import fnmatchcase

HELP = "wording of runc's help, which no caller reads"
TERMINAL = "fails with crun itself, by the suite's own fault (its helper has no isatty, it lacks --console-socket)"
V2 = "cgroup v2 only"

RUNC = {
    "checkpoint: *": "checkpoint and restore do not exist (criu is not there either)",
    "spec: spec validator": "clones a repository from the network",
    "version: runc version": "wants the word runc",
    "help: *": HELP,
}
CRUN = {
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
