#!/bin/sh
# Looks for tests that depend on luck: beside four programs that keep the processors busy, the whole
# suite twice, and twenty times those tests that fork, signal, time out or count.
#   scripts/test-stress.sh PYTHON [ROUNDS]
set -eu
python=$1
rounds=${2:-20}
cd "$(dirname "$0")/.."
# Words in the names of those tests.
delicate="fork or signal or alarm or interrupt or ctrl_c or handler or timeout or times_out or timed_out or
    deadline or too_late or killed or descriptors or counts or threads or processes or beside or close_wakes"

busy=""
trap 'kill $busy' EXIT
# dash skips the other one when a signal ends it.
trap 'exit 130' INT TERM HUP
for _ in 1 2 3 4; do
    while :; do :; done &
    busy="$busy $!"
done
# Four times the patience, since a test gets a third of a processor.
export DUCTWORKS_TEST_TIME_LIMIT=240
unset DUCTWORKS_TEST_BEGAN
"$python" -m pytest
"$python" -m pytest
for round in $(seq "$rounds"); do
    echo "== round $round of $rounds"
    "$python" -m pytest -q -k "$(echo $delicate)"
done
