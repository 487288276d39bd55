#!/bin/sh
# A runtime with runc's command line, for callers that speak crun's: what it lacks is left out of the words.
# One word of crun's is added: cases about NOTIFY_SOCKET run only where --version says +SYSTEMD.
#   FOREIGN_RUNTIME   the runtime
case " $* " in
*" --version "*)
    "$FOREIGN_RUNTIME" --version && echo +SYSTEMD
    exit
    ;;
esac
count=$#
while [ "$count" -gt 0 ]; do
    word=$1
    shift
    count=$((count - 1))
    case $word in
    --config)
        # runc has no such flag; a file of another name than config.json is beyond the wrapper
        if [ "${FOREIGN_RUNTIME##*/}" = runc ]; then
            shift
            count=$((count - 1))
        else
            set -- "$@" "$word"
        fi
        ;;
    --cgroup-manager)
        # its value goes as well
        shift
        count=$((count - 1))
        ;;
    --cgroup-manager=* | --config=config.json) ;;
    *) set -- "$@" "$word" ;;
    esac
done
exec "$FOREIGN_RUNTIME" "$@"
