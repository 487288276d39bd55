"""What runtimes are known not to keep: file::test (fnmatch patterns) to the reason, per runtime.

A test that is listed must fail (xfail, strict); one whose reason begins with "at times" may. The versions are those of
Debian 12: crun 1.8.1 and runc 1.1.5, which are of the time of runtime-spec 1.0.2 and 1.1.
"""

from fnmatch import fnmatchcase

AT_TIMES = "at times: "

LATER_1_1 = "newer than this version: runtime-spec 1.1"
LATER_1_2 = "newer than this version: runtime-spec 1.2"
LATER_1_3 = "newer than this version: runtime-spec 1.3"
LACKING = "this version does not have it"
NOT_CHECKED = "an invalid value is not checked"

CRUN = {
    "test_features::*": LACKING,
    "test_cgroups::test_limits[cpu.burst]": LATER_1_1,
    "test_cgroups::test_limits[pids.unlimited]": "-1 is written as it stands, which the kernel refuses",
    "test_cgroups::test_pids_limit_of_nothing": "0 is taken as not set",
    "test_cgroups::test_a_limit_that_the_kernel_refuses": "leaves the cgroups of a create that failed",
    "test_cgroups::test_what_the_kernel_lacks_is_an_error[rdma]": "a controller that is not there is skipped",
    "test_devices::test_another_file_is_there": "the file of the image is taken for the device",
    "test_devices::test_devices_in_a_user_namespace*": "the mode is not the one that is asked for",
    "test_devices::test_numbers_are_required": NOT_CHECKED,
    "test_devices::test_unknown_device_type_is_an_error": NOT_CHECKED,
    "test_devices::test_mknod_is_an_access": "mknod is allowed for every device",
    "test_hooks::test_the_state_is_on_stdin[createContainer]": "the state has pid 0",
    "test_hooks::test_the_state_is_on_stdin[startContainer]": "the state names / as the bundle",
    "test_hooks::test_poststart_is_called_before_start_returns": f"{AT_TIMES}a race",
    "test_hooks::test_path_must_be_absolute": NOT_CHECKED,
    "test_hooks::test_timeout_must_be_positive": NOT_CHECKED,
    "test_hooks::test_timeout[startContainer]": "start does not wait for the hook",
    "test_hooks::test_a_hook_of_create_that_fails*": "poststop is not called",
    "test_hooks::test_a_start_container_hook_that_fails": "start does not wait for the hook",
    "test_hooks::test_a_poststart_hook_that_fails": LATER_1_3,
    "test_lifecycle::test_start_needs_a_process": "create crashes: internal error",
    "test_lifecycle::test_kill_of_an_unknown_signal": "is taken as signal 0",
    "test_linux::test_memory_policy[*": LATER_1_3,
    "test_linux::test_memory_policy_flags": LATER_1_3,
    "test_linux::test_wrong_memory_policies_are_errors*": LATER_1_3,
    "test_linux::test_unknown_propagation_is_an_error": NOT_CHECKED,
    "test_linux::test_intel_rdt_without_resctrl": LACKING,
    "test_linux::test_labels_of_a_module_that_is_not_there[mountLabel]": "is passed over where SELinux is not there",
    "test_names_and_extensions::test_empty_annotation_key_is_an_error": NOT_CHECKED,
    "test_names_and_extensions::test_versions_of_one[1.2.1]": "knows 1.0 alone",
    "test_names_and_extensions::test_version_must_be_semantic[1.0]": NOT_CHECKED,
    "test_names_and_extensions::test_version_must_be_semantic[1.0.0.0]": NOT_CHECKED,
    "test_names_and_extensions::test_wrong_types_are_errors[args]": NOT_CHECKED,
    "test_names_and_extensions::test_wrong_types_are_errors[user]": NOT_CHECKED,
    "test_namespaces::test_new[time]": "create fails: write to sync socket",
    "test_namespaces::test_joined[time]": "create fails: write to sync socket",
    "test_namespaces::test_time_offsets*": "create fails: write to sync socket",
    "test_namespaces::test_duplicates_are_errors": NOT_CHECKED,
    "test_namespaces::test_net_device*": LATER_1_3,
    "test_process::test_cwd_must_be_absolute": NOT_CHECKED,
    "test_process::test_home[run-4711-/]": "none for who is not in the passwd",
    "test_process::test_home[exec-4711-/]": "none for who is not in the passwd",
    "test_process::test_duplicate_rlimit_is_an_error": NOT_CHECKED,
    "test_process::test_scheduler*": LATER_1_1,
    "test_process::test_unknown_scheduler_is_an_error*": LATER_1_1,
    "test_process::test_io_priority*": LATER_1_1,
    "test_process::test_unknown_io_priority_is_an_error": LATER_1_1,
    "test_process::test_exec_cpu_affinity": LATER_1_2,
    "test_root_and_mounts::test_options_that_must_be[iversion]": "is passed to file systems that do not know it",
    "test_root_and_mounts::test_options_that_must_be[noiversion]": "is passed to file systems that do not know it",
    "test_root_and_mounts::test_options_that_must_be[loud]": "is passed to the file system",
    "test_root_and_mounts::test_options_that_must_be[silent]": "is passed to the file system",
    "test_root_and_mounts::test_options_are_applied[nosymfollow]": "has no effect on a new file system",
    "test_root_and_mounts::test_the_last_option_counts*": "a flag that was set is not taken back",
    "test_root_and_mounts::test_recursive_options[rnoatime]": "leaves out MOUNT_ATTR__ATIME, which the kernel refuses",
    "test_root_and_mounts::test_recursive_options[rnodiratime]": "has no effect",
    "test_root_and_mounts::test_recursive_options[rnosymfollow]": "is not known",
    "test_root_and_mounts::test_mount_propagation[shared-*": "has no effect on a new file system",
    "test_root_and_mounts::test_mount_propagation[unbindable-*": "has no effect on a new file system",
    "test_root_and_mounts::test_mount_with_mappings*": LATER_1_2,
    "test_root_and_mounts::test_idmap_of_the_containers_own": LATER_1_2,
    "test_seccomp::test_wrong_values_are_errors[no names]": NOT_CHECKED,
    "test_seccomp::test_wrong_values_are_errors[metadata alone]": NOT_CHECKED,
    "test_seccomp::test_notify_without_a_path": "the container runs, with nobody to answer",
    "test_seccomp::test_listener_path_without_notify_is_ignored": "connects though nothing notifies",
    "test_seccomp::test_a_listener_and_no_rule": "connects though nothing notifies",
}

RUNC = {
    "test_devices::test_devices_in_a_user_namespace*": "binds the machine's node of that path, which has to be there",
    "test_cgroups::test_limits[cpu.burst]": LATER_1_1,
    "test_cgroups::test_limits[cpu.idle]": LACKING,
    "test_cgroups::test_pids_limit_of_nothing": "0 is taken as not set",
    "test_devices::test_another_file_is_there": "the file of the image is taken for the device",
    "test_devices::test_numbers_are_required": NOT_CHECKED,
    "test_devices::test_mknod_is_an_access": "mknod is allowed for every device",
    "test_features::test_capabilities": "fails where the machine itself lacks a capability",
    "test_features::test_what_is_built_in[intelRdt]": LATER_1_1,
    "test_features::test_what_is_built_in[netDevices]": LATER_1_3,
    "test_features::test_memory_policy": LATER_1_3,
    "test_features::test_idmapped_mounts": LATER_1_2,
    "test_hooks::test_the_state_is_on_stdin[poststart]": "poststart is called by create (runc#4347)",
    "test_hooks::test_hooks_of_create_are_called_at_create": "poststart is called by create (runc#4347)",
    "test_hooks::test_poststart_is_called_before_start_returns": "poststart is called by create (runc#4347)",
    "test_hooks::test_timeout[startContainer]": "start does not wait for the hook",
    "test_hooks::test_a_start_container_hook_that_fails": "start does not wait for the hook",
    "test_hooks::test_a_poststart_hook_that_fails": "poststart is called by create (runc#4347)",
    "test_hooks::test_a_poststop_hook_that_fails": "the remaining hooks are not called",
    "test_lifecycle::test_start_needs_a_process": "process is required by create",
    "test_linux::test_personality[LINUX32*": LACKING,
    "test_linux::test_unknown_personality_is_an_error": LACKING,
    "test_linux::test_memory_policy[*": LATER_1_3,
    "test_linux::test_memory_policy_flags": LATER_1_3,
    "test_linux::test_wrong_memory_policies_are_errors*": LATER_1_3,
    "test_linux::test_rootfs_propagation[shared]": "is not to be seen on the root that the container gets",
    "test_linux::test_rootfs_propagation[unbindable]": "binds the root after it was made unbindable",
    "test_names_and_extensions::test_domainname": LATER_1_1,
    "test_names_and_extensions::test_empty_annotation_key_is_an_error": NOT_CHECKED,
    "test_names_and_extensions::test_version_must_be_semantic*": NOT_CHECKED,
    "test_namespaces::test_new[time]": LATER_1_1,
    "test_namespaces::test_joined[time]": LATER_1_1,
    "test_namespaces::test_joined_user": "wants mappings beside a user namespace that is joined",
    "test_namespaces::test_time_offsets*": LATER_1_1,
    "test_namespaces::test_net_device*": LATER_1_3,
    "test_process::test_duplicate_rlimit_is_an_error": NOT_CHECKED,
    "test_process::test_scheduler*": LATER_1_1,
    "test_process::test_unknown_scheduler_is_an_error*": LATER_1_1,
    "test_process::test_io_priority*": LATER_1_1,
    "test_process::test_unknown_io_priority_is_an_error": LATER_1_1,
    "test_process::test_exec_cpu_affinity": LATER_1_2,
    "test_root_and_mounts::test_options_that_must_be[defaults]": "is passed to the file system",
    "test_root_and_mounts::test_mount_with_mappings*": LATER_1_2,
    "test_root_and_mounts::test_idmap*": LATER_1_2,
    "test_root_and_mounts::test_mappings_come_in_pairs*": LATER_1_2,
    "test_seccomp::test_errno_ret_of_an_action_without_one": NOT_CHECKED,
    "test_seccomp::test_flags*": LACKING,
    "test_seccomp::test_architectures[RISCV64]": "is not known",
    "test_seccomp::test_wrong_values_are_errors[no names]": NOT_CHECKED,
    "test_seccomp::test_wrong_values_are_errors[metadata alone]": NOT_CHECKED,
}

ASYNCRT = {
    "test_devices::test_mknod_is_an_access": "mknod is allowed for every device, as by crun and runc; opening is not",
}

KNOWN: dict[str, dict[str, str]] = {"crun": CRUN, "runc": RUNC, "asyncrt-oci": ASYNCRT}


def of(runtime: str) -> dict[str, str]:
    """The table of a runtime; empty for one that is not listed."""
    return KNOWN.get(runtime, {})


def reason(known: dict[str, str], test: str) -> str | None:
    """Why this test is known to fail, None where it has to pass. ``[`` stands for itself in a pattern."""
    plain = _plain(test)
    return next((why for pattern, why in known.items() if fnmatchcase(plain, _plain(pattern))), None)


def _plain(text: str) -> str:
    return text.replace("[", "<").replace("]", ">")
