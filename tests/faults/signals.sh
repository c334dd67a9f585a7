#!/bin/bash
# Signals at every place where something is written, and while something is computed: while a dataset is built, class
# pictures are drawn, pictures and captions encoded, validation and previews run, a checkpoint is saved, the result is
# exported. Breaks if SIGINT or SIGTERM does not end a run with the state saved, status 130 and how to go on, if a second
# one does not end it at once, if anything is harmed by either, or if losing the terminal or the readers of its output
# ends a run.
#
#     signals.sh ATELIER [STRIDE]     every STRIDE-th writing call, and every STRIDE × 9-th operation
. "$(dirname "$0")/common" "$1"
stride=${2:-113}

# Asked to stop, it stops, unless everything was done already: then nothing that comes later stops it either.
in_time() {
    [ "$3" = 130 ] || [ "$2-$3" = int-0 ] || [ "$2-$3" = term-0 ] || fail "$4: status $3"
    [ "$3-$ends" != 0-none ] || fail "$4: it did not stop"
    [ "$3-$ends" != 130-0 ] || fail "$4: stopped, and was not when asked before"
    ends=$3
}
run_stopped() {
    in_time "$@"
    if [ "$2-$3" = int-130 ] || [ "$2-$3" = term-130 ]; then
        grep -q "^interrupted.* Go on with: atelier train .*--resume auto" "$work/err" ||
            fail "$4: it does not say how to go on: $(tail -n 2 "$work/err")"
        no_leftovers "$4"
    fi
    whole_files "$1" "$4"
    go_on "$1" "$4"
}
# A command that writes in one go.
command_stopped() {
    in_time "$@"
    [ "$2" = exit ] || no_leftovers "$4"
    whole_files "$1" "$4"
    again "$1" "$4" "${command[@]}"
}
outlived() {
    [ "$3" = 0 ] || fail "$4: status $3"
    same_end "$1" "$4"
}

# at_writes NAME SIGNAL N STRIDE VERDICT COMMAND…, at_work …: the first one stops it.
at_writes() {
    ends=none
    local before=$places
    everywhere "$2" "$3" "$4" "$1" "$5" "${@:6}"
    [ $places -gt $before ] || fail "$1: $2 came nowhere"
}
at_work() {
    counted=work
    at_writes "$1" "$2" "$3" $((9 * $4)) "${@:5}"
    counted=$work/run
}

model=$here/tests/golden/models/sd1
third=$((stride / 3 + 1))
for kind in lora full prior; do
    undisturbed_run $kind
    command=("$atelier" train "$work/$kind.yaml")
    at_writes $kind int $third "$stride" run_stopped "${command[@]}"
    at_writes $kind exit $((2 * third)) "$stride" run_stopped "${command[@]}"
    at_work $kind int $((3 * third)) "$stride" run_stopped "${command[@]}"
    at_work $kind term $((5 * third)) $((2 * stride)) run_stopped "${command[@]}"
    at_work $kind exit $((7 * third)) $((2 * stride)) run_stopped "${command[@]}"
    at_work $kind hup $((9 * third)) $((3 * stride)) outlived "${command[@]}"
done
commands() {
    command=("${@:2}")
    undisturbed "$@"
    for signal in int exit; do
        at_writes "$1" $signal 2 $((stride / 2 + 1)) command_stopped "${command[@]}"
        at_work "$1" $signal $third "$stride" command_stopped "${command[@]}"
    done
}
commands build "$atelier" data build "$work/pictures" --out "$work/run/set.h5" --cache latents,text --model "$model" --resolution 32 --dtype f32
commands sample "$atelier" sample --model "$model" --prompt "a cat" --steps 1 --seed 1,2 --threads 1 --out "$work/run/cat.png"

# Nobody reads, nothing is open, the disk of its output is full: the run goes on.
status() { [ "$2" = 0 ] || fail "$1: status $2"; same_end lora "$1"; rm -rf "$work/run"; }
rm -rf "$work/run"
"$atelier" train "$work/lora.yaml" 2>&1 > /dev/null | head -n 1 > /dev/null
status "a reader that leaves" "${PIPESTATUS[0]}"
"$atelier" train "$work/lora.yaml" <&- >&- 2>&-
status "closed streams" $?
"$atelier" train "$work/lora.yaml" > /dev/null 2> /dev/full
status "messages to a full disk" $?
# The names of its files cannot be told: the run is done all the same, and says what got lost.
"$atelier" train "$work/lora.yaml" > /dev/full 2> "$work/err"
status "output to a full disk" $?
grep -q "cannot be written to standard output" "$work/err" || fail "output to a full disk: it is not told"

# A terminal that goes away: SIGHUP, and every write to it fails.
if command -v script > /dev/null; then
    echo "echo \$\$ > $work/pid; exec $atelier train $work/lora.yaml" > "$work/in-terminal"
    script -qc "bash $work/in-terminal" /dev/null > /dev/null 2>&1 < /dev/null & terminal=$!
    if comes $terminal test -s "$work/pid" && comes "$(cat "$work/pid")" test -e "$work/run"; then
        kill -KILL $terminal
        wait $terminal 2> /dev/null
        while kill -0 "$(cat "$work/pid")" 2> /dev/null; do sleep 0.01; done
        status "a terminal that goes away" 0
    else
        echo "no terminal can be had here, so none goes away"
    fi
fi

# The lock ends with its process, however that ends, and names it meanwhile.
n=100
while :; do # until there is a checkpoint
    rm -rf "$work/run"
    disturbed kill $n "$atelier" train "$work/lora.yaml" 2> /dev/null
    ! ls "$work/run/checkpoints" 2> /dev/null | grep -q . || break
    n=$((n + 20))
done
mkfifo "$work/hold"
(exec 9< "$work/run" && flock -n 9 && : > "$work/held" && read -r _ < "$work/hold") & holder=$!
comes $holder test -e "$work/held" || fail "the folder cannot be locked"
for arguments in "" "--resume auto" "--resume $work/run"; do
    taken=0
    # shellcheck disable=SC2086
    train lora $arguments || taken=$?
    [ $taken = 2 ] || fail "a folder that is taken, $arguments: status $taken, not 2"
    grep -q "another process, number [0-9]*, is training here" "$work/err" || fail "the other process is not named: $(cat "$work/err")"
done
echo > "$work/hold"
wait $holder
go_on lora "after a process that was killed"
echo "$places signals"
[ $failures = 0 ]
