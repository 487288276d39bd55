"""Cgroup v2 in a virtual machine: run.sh boots it, the rest runs inside."""
