#!/bin/bash
# `atelier train --processes N` as a user meets it. Breaks if the number of processes changes the result, if one that is
# killed or stopped leaves others running or waiting, or says no more than that it failed; if being asked to stop counts
# otherwise than once, whoever is asked; or if what cannot work is not refused.
#
#     processes.sh ATELIER
. "$(dirname "$0")/common" "$1"
# gcc 12's leak checker falls over the thread-local memory of libraries opened late, as the launcher opens ours
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
unset RANK WORLD_SIZE ATELIER_TOKEN

cat >"$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: $work/pictures, caption: {dropout: 0.1}, augment: {flip: true}}
method: {kind: lora, rank: 4}
train: {steps: 60, batch: 1, accumulate: 3, resolution: 32, threads: 1}
optimizer: {lr: 1.0e-3}
output: {save_every: 10, dir: $work/none}
YAML
pictures "$work/pictures" banana bell bicycle butterfly cactus carrot

train() { # DIR WORD…
    "$atelier" train "$work/run.yaml" --set output.dir="$work/$1" "${@:2}"
}
same() { cmp "$work/whole/lora.safetensors" "$work/$1/lora.safetensors" || fail "$1: another result"; }
says() { grep -q -- "$1" "$work/err" || fail "\"$1\" is not said"; }
says_not() { ! grep -q -- "$1" "$work/err" || fail "\"$1\" is said"; }
# "NAME=VALUE" of a process's environment
is_rank() { tr '\0' '\n' <"/proc/$2/environ" 2>/dev/null | grep -qx "RANK=$1"; }
none_left() {
    local left
    left=$(pgrep -f "$work/none\|$work/$1\b" || true)
    [ -z "$left" ] || fail "$1: these are left: $left"
}

# all_there COUNT: ${ranks[R]} is process R
all_there() {
    local child rank
    ranks=()
    for child in $(pgrep -P $starter); do
        for ((rank = 0; rank < $1; rank++)); do
            if is_rank $rank "$child"; then ranks[rank]=$child; fi
        done
    done
    [ "${#ranks[@]}" = "$1" ]
}
# begin DIR COUNT WORD…: in the background, in a group of its own, until process 0 stands still after a few steps:
# $starter is the starter. go lets it go on.
begin() {
    rm -rf "${work:?}/$1"
    FAULT_KIND=stop FAULT_BELOW=$work/$1/log.jsonl FAULT_AT=6 LD_PRELOAD=$faults setsid "$atelier" train "$work/run.yaml" \
        --set output.dir="$work/$1" --processes "$2" "${@:3}" >"$work/out" 2>"$work/err" &
    starter=$!
    comes $starter all_there "$2" || fail "$1: ended before it began, ${#ranks[@]} processes, not $2"
    comes $starter stands "${ranks[0]}" || fail "$1: ended before it began"
}
go() { kill -CONT "${ranks[0]}"; }
# ends STATUS DIR
ends() {
    local status=0
    wait $starter || status=$?
    [ $status = "$1" ] || fail "$2: status $status, not $1"
    none_left "$2"
}
# The run goes on with another number of processes to the end that it would have had.
go_on() { # DIR COUNT
    expect 0 train "$1" --resume auto --processes "$2"
    same "$1"
}

expect 0 train whole
expect 0 train two --processes 2
same two
expect 0 train three --processes 3
same three
[ "$(grep -c '^train .*100%' "$work/err")" = 1 ] || fail "not one process speaks"

# The same of pictures of many shapes, each at two resolutions: class pictures are drawn in their sizes, masks weigh the
# loss, some are held out; the latents from a cache and without.
mkdir "$work/shapes"
for name in png-rgb.png jpeg-exif6.jpg webp-exif8.webp jpeg-grey.jpg jpeg-exif5.jpg png-palette.png; do
    cp "$here/tests/golden/pictures/$name" "$work/shapes"
done
cp "$here/data/examples/bell.jpg" "$here/data/examples/carrot.jpg" "$work/shapes"
cp "$here/tests/golden/pictures/png-rgb.png" "$work/shapes/png-rgb.mask.png"
of_shapes() { # DIR WORD…
    rm -rf "$work/class"
    expect 0 train "$1" --set dataset.path="$work/shapes" --set "dataset.caption.missing=a red thing" --set "dataset.resolution=[32, 48]" \
        --set prior.path="$work/class" --set "prior.prompt=a thing" --set prior.pictures=6 --set prior.steps=1 \
        --set validation.share=0.2 --set validation.every=5 --set train.steps=10 "${@:2}"
    mv "$work/class" "$work/$1/class"
}
of_shapes one-of-shapes
of_shapes three-of-shapes --processes 3
of_shapes two-of-shapes --processes 2 --set train.cache_latents=false
for name in two three; do
    cmp "$work/one-of-shapes/lora.safetensors" "$work/$name-of-shapes/lora.safetensors" || fail "$name processes: another result"
    diff -r "$work/one-of-shapes/class" "$work/$name-of-shapes/class" || fail "$name processes: other class pictures"
    for value in validation_loss best_validation_loss; do
        [ "$(grep -o "\"$value\":[^,}]*" "$work/one-of-shapes/log.jsonl")" = "$(grep -o "\"$value\":[^,}]*" "$work/$name-of-shapes/log.jsonl")" ] ||
            fail "$name processes: another $value"
    done
done

# One is killed.
begin killed 3
kill -KILL "${ranks[2]}"
go
ends 1 killed
says 'process 2 of 3 ([0-9]*) has ended without a word'
says 'process 2 of 3 was ended by signal 9 (Killed)'
go_on killed 2
begin first 2
kill -ABRT "${ranks[0]}"
go
ends 1 first
says 'process 0 of 2 was ended by signal 6'
go_on first 3

# One is killed as soon as it is there, before the others have found it: they do not wait for it.
rm -rf "$work/early"
"$atelier" train "$work/run.yaml" --set output.dir="$work/early" --set train.steps=100000 --processes 2 >"$work/out" 2>"$work/err" &
starter=$!
comes $starter all_there 2 || fail "early: ended before it began"
kill -KILL "${ranks[1]}"
ends 1 early
says 'process 1 of 2 was ended by signal 9'

# One is stopped: the others notice, and it is ended too.
begin stopped 2 --set train.timeout=5
kill -STOP "${ranks[1]}"
go
ends 1 stopped
says 'process 1 of 2 ([0-9]*) has not been heard of for 5 seconds'
says 'process 1 of 2 was stopped (by SIGSTOP, or a debugger), and was ended by its starter'
go_on stopped 1

# All are stopped, for longer than that, and go on: nobody was late.
begin frozen 3 --set train.timeout=5
kill -STOP "${ranks[1]}" "${ranks[2]}"
go
sleep 1 # process 0 waits for them by now
kill -STOP "${ranks[0]}"
sleep 6
kill -CONT "${ranks[2]}" "${ranks[1]}" "${ranks[0]}"
ends 0 frozen
same frozen

# Asked to stop: the starter alone, twice in a moment, all at once, as a batch system does; the answer is one.
asked() { # DIR COMMAND…
    begin "$1" 2
    "${@:2}"
    go
    ends 130 "$1"
    says '^interrupted.* Go on with: atelier train .*--processes 2 --resume auto'
    says_not 'was ended by'
    go_on "$1" 3
}
asked one eval 'kill -USR1 "${ranks[1]}"'
twice() { kill -STOP $starter; kill -TERM $starter; kill -INT $starter; kill -CONT $starter; }
whole_group() { kill -INT -- -$starter; }
asked alone eval 'kill -TERM $starter'
asked twice twice
asked group whole_group
asked batch eval 'kill -USR1 $starter "${ranks[@]}"'

# Asked again, later than in the same moment, it ends at once. Process 0 cannot answer the first request meanwhile.
begin again 2 --set train.steps=100000
has_come() { (((0x$(sed -n 's/^ShdPnd:\t*//p' "/proc/${ranks[0]}/status") >> ($(kill -l "$1") - 1)) & 1)); }
asked_again() {
    kill -INT $starter
    has_come USR2
}
kill -INT $starter
comes $starter has_come USR1 || fail "the request is not passed on"
comes $starter asked_again || fail "the second request is not passed on"
go
ends 130 again
[ "$(grep -c 'ended at once by a second signal' "$work/err")" = 1 ] || fail "not one process has last words"

# The starter is killed: the others save, and end by themselves.
begin orphans 2
kill -KILL $starter
go
wait $starter 2>/dev/null || true
while kill -0 "${ranks[0]}" 2>/dev/null || kill -0 "${ranks[1]}" 2>/dev/null; do sleep 0.02; done
none_left orphans
go_on orphans 2

# Refused.
expect 2 train none --processes 4
says 'accumulate'
expect 2 train none --processes 0
expect 2 train none --processes 2 --gpus 2
says 'one of the two'
expect 2 train none --gpus some
says '\-\-gpus some: it is all, or a number'
expect 2 train none --gpus all --device cpu
says '\-\-device cuda'
expect 2 env RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 "$atelier" train "$work/run.yaml" --processes 2
says 'was started as one of 2 already'
expect 2 env OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 "$atelier" train "$work/run.yaml" --processes 2
says 'was started as one of 2 already'
sed 's/steps/stpes/' "$work/run.yaml" >"$work/wrong.yaml"
expect 2 "$atelier" train "$work/wrong.yaml" --processes 2
[ "$(grep -c 'did you mean train.steps' "$work/err")" = 1 ] || fail "a mistake in the configuration is not said once"
