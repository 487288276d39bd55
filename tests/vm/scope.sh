#!/bin/sh
# An engine whose cgroups a real systemd owns:   sh tests/vm/scope.sh       (as a service of the systemd of systemd.sh)
#
# Ends at the first thing that is not as it should be, and says which.
name=scope
cd "$(dirname -- "$0")/../.."
export ASYNCRT_CGROUP_DRIVER=systemd PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 HOME=/root # of a service nothing is set
. tests/vm/engine.sh

told() { # UNIT PROPERTY
    systemctl show --value --property="$2" "$1"
}

same 'systemd is process 1' systemd "$(cat /proc/1/comm)"
parent=$(asyncrt info --format json | value cgroup_parent)
scope=$(basename "$(dirname "$parent")")
case $parent in
/system.slice/asyncrt-*.scope/containers) printf 'scope: it stands in %s\n' "$parent" ;;
*) die "the parent of the containers is '$parent'" ;;
esac
same 'systemd knows it' active "$(told "$scope" ActiveState)"
same 'and leaves alone what is below it' yes "$(told "$scope" Delegate)"
at=/sys/fs/cgroup$parent

asyncrt run -d --name box -m 64m --pids-limit 20 --cpus 0.5 "$image" sleep 1000 >/dev/null
id=$(asyncrt ps --quiet --no-trunc)
limits() { # WHEN
    for limit in memory.max=67108864 pids.max=20 'cpu.max=50000 100000'; do
        same "$limit $1" "${limit#*=}" "$(cat "$at/$id/${limit%%=*}")"
    done
    node='mknod /tmp/x b 8 0 && head -c 1 /tmp/x 2>&1; rm /tmp/x; echo > /dev/null && echo null'
    same "a disk is not opened, the null device is, $1" 'head: /tmp/x: Operation not permitted
null' "$(asyncrt exec box sh -c "$node")"
}
limits 'at first'
systemctl daemon-reload
systemctl set-property --runtime "$scope" MemoryMax=512M
limits 'after a daemon-reload and a new property of the scope'
same 'which the kernel has' 536870912 "$(cat "$at/../memory.max")"

same 'who is short of memory is killed' 4 \
    "$(asyncrt run --name short -m 16m "$image" sh -c 'tail /dev/zero; exit 4' >/dev/null 2>&1 && echo 0 || echo $?)"
asyncrt inspect short >"$base/short"
same 'and whose limit it was is told' "$parent/$(value 0 id <"$base/short")" "$(value 0 exit oom_cgroup <"$base/short")"

kill -9 "$(cat "$base/state/lock")"
same 'a successor runs containers' again "$(asyncrt run --rm "$image" echo again)"
same 'in the same scope' "$parent" "$(asyncrt info --format json | value cgroup_parent)"
same 'beside those of the first' "$id" "$(asyncrt ps --quiet --no-trunc)"
asyncrt rm -f box short >/dev/null
asyncrt daemon stop >/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(told "$scope" ActiveState)" = active ] || break
    sleep 1
done
same 'the scope went with the last process' inactive "$(told "$scope" ActiveState)"
[ ! -e "$at" ] || die "$at is left"
rm -rf -- "$base"
printf 'scope: all is as it should be\n'
