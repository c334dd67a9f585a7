#!/bin/bash
# `atelier doctor --mpi`: who the processes are, and what a step's exchanges take. Breaks if one of them is missing from
# the table, if the table does not fit a terminal, or if JSON says less.
#
#     doctor_processes.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
prints() { grep -qE -- "$1" "$work/out" || fail "\"$1\" is not in: $(cat "$work/out")"; }

look_at_table() { # TRANSPORT
    prints '^rank  host'
    prints '^ +0  .* cpu '
    prints '^ +1  .* cpu '
    prints "^blocks travel by $1"
    for line in agreeing 'LoRA of rank 16, exact' 'LoRA of rank 16, fast' 'a? ?UNet, exact' 'UNet, fast'; do
        prints "$line .* m?s"
    done
    awk 'length > 80 { exit 1 }' "$work/out" || fail "a line has more than 80 columns"
    [ "$(grep -c '^rank' "$work/out")" = 1 ] || fail "not one process speaks"
}

run 0 doctor --mpi --processes 2 --device cpu
look_at_table sockets
run 0 doctor --mpi --processes 3 --device cpu --json
for word in '"rank": 2' '"host"' '"pid"' '"threads"' '"transport": "sockets"' '"bytes_per_second"'; do prints "$word"; done
run 2 doctor --mpi
says 'is for several processes'
run 2 doctor --processes 2
says 'go with --mpi'
run 0 doctor
prints 'Open MPI'

if command -v mpirun >/dev/null; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
    mpirun --oversubscribe -np 2 "$atelier" doctor --mpi --device cpu >"$work/out" 2>"$work/err" </dev/null ||
        fail "under mpirun: $(cat "$work/err")"
    look_at_table 'mpi \(Open MPI'
else
    echo "NOT TESTED: doctor --mpi under mpirun, which is not here (scripts/setup --mpi installs it)"
fi
finish "the doctor knows several processes"
