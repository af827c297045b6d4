#!/usr/bin/env bash
# Run a program so that SIGUSR1, "the time of the job is almost up", does not end it: guarded.sh PROGRAM ARGUMENTS...
#
# A program that wants the signal, as main.py does once it trains, takes it; any other ignores it. torchrun would end all
# its workers, and some clusters send a signal to it alone: it is handed on to the workers.
if [[ $1 != torchrun ]]; then
    trap '' USR1
    exec "$@"
fi
(
    trap '' USR1
    exec "$@"
) &
child=$!
trap 'pkill -USR1 -P "$child"' USR1
trap 'kill -TERM "$child"' TERM
until wait "$child"; do # a handled signal ends a wait, too
    code=$?
    kill -0 "$child" 2> /dev/null || exit "$code"
done
