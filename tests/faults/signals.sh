#!/bin/bash
# Signals at every place where something is written, that is: while a dataset is built, pictures are encoded, validation
# and previews run, a checkpoint is saved, the result is exported. Breaks if SIGINT does not end a run with the state
# saved, status 130 and how to go on, if a second one does not end it at once, if anything is harmed by either, or if
# losing the terminal or the readers of its output ends a run.
#
#     signals.sh ATELIER [STRIDE]     every STRIDE-th writing call
. "$(dirname "$0")/common" "$1"
stride=${2:-67}
signals=0

runs() {
    local kind=$1 signal=$2 n=$3 status what
    while :; do
        rm -rf "$work/run"
        status=0
        disturbed "$signal" "$n" "$atelier" train "$work/$kind.yaml" || status=$?
        [ -e "$work/fault" ] || break
        what="$kind, $(cat "$work/fault") ($n)"
        # after the last step there is nothing to be saved: the run ends as it would have
        [ $status = 130 ] || { [ $signal = int ] && [ $status = 0 ] && [ -e "$work/run/log.jsonl" ]; } || fail "$what: status $status"
        if [ $signal = int ] && [ $status = 130 ]; then
            grep -q "Go on with: atelier train .*--resume auto\|nothing is saved" "$work/err" ||
                fail "$what: it does not say how to go on: $(tail -n 2 "$work/err")"
            ! find "$work/run" 2> /dev/null | grep -q "\.atelier-\|/\.step-" || fail "$what: leaves half files"
        fi
        whole_files "$kind" "$what"
        go_on "$kind" "$what"
        signals=$((signals + 1))
        n=$((n + stride))
    done
}

# once NAME COMMAND…: one that writes below $work/run in one go.
once() {
    local name=$1 signal n status file
    shift
    rm -rf "$work/run" "$work/whole"
    mkdir "$work/run"
    "$@" > "$work/out" 2> "$work/err" || fail "$name: $(cat "$work/err")"
    mv "$work/run" "$work/whole"
    for signal in int exit; do
        n=$((1 + stride / 2))
        while :; do
            rm -rf "$work/run"
            mkdir "$work/run"
            status=0
            disturbed $signal $n "$@" || status=$?
            [ -e "$work/fault" ] || break
            [ $status = 130 ] || [ $signal-$status = int-0 ] || fail "$name, $(cat "$work/fault") ($n): status $status"
            for file in "$work/run"/*; do
                case $signal-$file in
                exit-*.atelier-* | *'/*') ;;
                *) same_file "$file" "$work/whole/${file##*/}" "$name, $(cat "$work/fault") ($n)" ;;
                esac
            done
            signals=$((signals + 1))
            n=$((n + stride / 2))
        done
    done
}

model=$here/tests/golden/models/sd1
undisturbed lora
undisturbed full
runs lora int 1
runs lora exit $((1 + stride / 2))
runs full int $((1 + stride / 3))
runs full exit $((1 + stride * 2 / 3))
once "data build" "$atelier" data build "$work/pictures" --out "$work/run/set.h5" --cache latents,text --model "$model" --resolution 32 --dtype f32
once "sample" "$atelier" sample --model "$model" --prompt "a cat" --steps 1 --seed 1,2 --threads 1 --out "$work/run"

# Nobody reads, nothing is open, the disk of its output is full: the run goes on.
status() { [ "$2" = 0 ] || fail "$1: status $2"; same_end lora "$1"; rm -rf "$work/run"; }
rm -rf "$work/run"
"$atelier" train "$work/lora.yaml" 2>&1 > /dev/null | head -n 1 > /dev/null
status "a reader that leaves" "${PIPESTATUS[0]}"
"$atelier" train "$work/lora.yaml" <&- >&- 2>&-
status "closed streams" $?
"$atelier" train "$work/lora.yaml" > /dev/full 2>&1
status "output to a full disk" $?

# A terminal that goes away: SIGHUP, and every write to it fails.
if command -v script > /dev/null; then
    echo "echo \$\$ > $work/pid; exec $atelier train $work/lora.yaml" > "$work/in-terminal"
    script -qc "bash $work/in-terminal" /dev/null > /dev/null 2>&1 < /dev/null & terminal=$!
    while [ ! -s "$work/pid" ] || [ ! -e "$work/run" ]; do sleep 0.01; done
    kill -KILL $terminal
    wait $terminal 2> /dev/null
    while kill -0 "$(cat "$work/pid")" 2> /dev/null; do sleep 0.01; done
    status "a terminal that goes away" 0
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
while [ ! -e "$work/held" ]; do sleep 0.01; done
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
echo "$signals signals"
[ $failures = 0 ]
