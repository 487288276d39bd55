#!/bin/sh
# One engine's life by the command line, on cgroup v2:   sh tests/vm/smoke.sh        (inside the virtual machine, as root)
#
# Ends at the first thing that is not as it should be, and says which.
name=smoke
cd "$(dirname -- "$0")/../.."
. tests/vm/engine.sh

same 'a run says what it says' hi "$(asyncrt run --rm "$image" echo hi)"
same 'an exit code' 7 "$(asyncrt run --rm "$image" sh -c 'exit 7' >/dev/null && echo 0 || echo $?)"
same 'a container of the machine' host "$(asyncrt run --rm host: echo host)"

# an image on a file system that came after the supervisor
mkdir "$base/other" "$base/data"
mount -t tmpfs other "$base/other"
cp -a "$rootfs/." "$base/other"
echo shared >"$base/data/file"
same 'an image on another file system, and a volume' shared \
    "$(asyncrt run --rm -v "$base/data:/data:ro" "rootfs:$base/other" cat /data/file)"
umount "$base/other"

asyncrt run -d --name limited --memory 64m --pids-limit 20 --cpus 0.5 --cpuset-cpus 1 "$image" sleep 1000 >/dev/null
id=$(asyncrt ps --quiet --no-trunc)
cgroup=$(echo /sys/fs/cgroup/asyncrt-*/"$id")
for limit in memory.max=67108864 pids.max=20 'cpu.max=50000 100000' cpuset.cpus=1 cpuset.cpus.effective=1; do
    same "$limit" "${limit#*=}" "$(cat "$cgroup/${limit%%=*}")"
done
same 'an exec lives in the cgroup' 0::/ "$(asyncrt exec limited cat /proc/self/cgroup)"
same 'and sees it as the root' 20 "$(asyncrt exec limited cat /sys/fs/cgroup/pids.max)"

node='mknod /tmp/x b 8 0 && head -c 1 /tmp/x 2>&1; mknod /tmp/n c 1 3 && echo > /tmp/n && echo null'
same 'a disk cannot be opened by a node of its own' \
    'head: /tmp/x: Operation not permitted
null' "$(asyncrt run --rm "$image" sh -c "$node")"

code=$(asyncrt run --name greedy --memory 16m "$image" tail /dev/zero >/dev/null 2>&1 && echo 0 || echo $?)
same 'out of memory' 137 "$code"
same 'the record counts the OOM kill' 1 "$(asyncrt inspect greedy | value 0 exit oom_kills)"

same 'ten at once' 10 "$(asyncrt run -d --count 10 "$image" sleep 1000 | wc -l)"
kill -9 "$(cat "$base/state/lock")"
same 'the next supervisor adopts them' 11 "$(asyncrt ps --quiet | wc -l)"
same 'and can still exec' still "$(asyncrt exec limited echo still)"

asyncrt rm --force --all >/dev/null
same 'nothing lives after rm' '' "$(asyncrt ps --all --quiet)"
asyncrt daemon stop
same 'no cgroup is left' '' "$(find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -name 'asyncrt*')"
same 'no mount is left' '' "$(grep " $base" /proc/self/mountinfo || true)"
same 'no snapshot is left' '' "$(ls "$base/root/snapshots" "$base/root/containers" | grep -v : || true)"
rm -rf -- "$base"
