"""The benches: a figure that asyncrt promises is measured here, against the engines that people use today.

`start.py` is the program. Its nouns, a file each: `keeper` (the parent that leaves nothing behind),
`machine` (the private namespaces, the cgroup parent, the facts of the host), `process` (commands and
daemons with deadlines), `image` (the one busybox root file system for all), `census` (who runs: containers,
their helpers), `measure` (CPU, settling, memory), `turn` (one peer's turn in a round), `report` (medians,
ratios, anchors), `chart` (the SVG), and `peers/` (one file an engine).

A run: keeper -> private namespaces -> idle baseline -> for each count and round, every peer takes its turn
in rotated order -> start.json and start.svg. Standard library only: the bench imports nothing of asyncrt
and drives it as it drives the others, from the outside.
"""
