#!/bin/bash
# Every writing system call of a run failing in turn: a full disk, an I/O error once, a write that takes half. Breaks if
# a run then ends in a crash or without a message that names file and cause, if an earlier checkpoint is harmed or a half
# file has a final name, or if --resume auto does not end in the same bytes afterwards.
#
#     writes.sh ATELIER [STRIDE]      every STRIDE-th call (1: all, which takes minutes)
. "$(dirname "$0")/common" "$1"
stride=${2:-83}

# ended FAULT STATUS WHAT: as it has to be after a fault.
ended() {
    local cause file
    case $1 in
    enospc) cause="No space left on device" ;;
    eio) cause="Input/output error" ;;
    short) [ "$2" = 0 ] || fail "$3: status $2: $(tail -n 2 "$work/err")"; return ;;
    esac
    # tolerated, with the same end: an old checkpoint that stays, and HDF5 opening a file at the second try
    if [ "$2" = 0 ]; then
        grep -q "^atelier: warning: .*cannot be removed: $cause" "$work/err" || grep -q "^eio open .*\.h5" "$work/fault" ||
            fail "$3: status 0: the failure was not noticed"
        return
    fi
    [ "$2" = 1 ] || fail "$3: status $2, not 1: $(tail -n 2 "$work/err")"
    # what the call was about is named, as the file or as the folder that it lies in
    file=$(sed -n '1s|^[a-z]* [a-z]* ||p' "$work/fault")
    file=${file%%.atelier-*}
    file=${file##*/.step-}
    file=${file%%.old-*}
    file=${file%%.replaced-*}
    file=$(basename "${file%%.part-*}" | sed 's/^0*//')
    grep "^atelier: .*$cause" "$work/err" | grep -qF -- "$file" && grep -q "^atelier: error: .*$cause" "$work/err" ||
        fail "$3: file and cause are not named: $(tail -n 2 "$work/err")"
}

run_ended() {
    ended "$2" "$3" "$4"
    whole_files "$1" "$4"
    if [ "$3" != 0 ]; then
        go_on "$1" "$4"
    elif ! grep -q "cannot be removed" "$work/err"; then
        same_end "$1" "$4"
    fi
}
runs() { everywhere "$2" "$3" "$4" "$1" run_ended "$atelier" train "$work/$1.yaml"; }

# A command that writes in one go, and can be given again.
command_ended() {
    ended "$2" "$3" "$4"
    whole_files "$1" "$4"
    no_leftovers "$4"
    again "$1" "$4" "${command[@]}"
}
commands() {
    command=("${@:2}")
    undisturbed "$1" "${command[@]}"
    for fault in enospc eio short; do
        everywhere $fault $((1 + stride / 12)) "$stride" "$1" command_ended "${command[@]}"
    done
}

model=$here/tests/golden/models/sd1
undisturbed_run lora
undisturbed_run full
undisturbed_run sdxl
runs lora enospc 1 "$stride"
runs lora eio $((1 + stride / 3)) "$stride"
runs lora short $((1 + stride / 2)) $((1 + stride / 9))
runs full enospc $((1 + stride / 4)) "$stride"
runs full eio $((1 + stride * 3 / 4)) "$stride"
runs sdxl enospc $((1 + stride / 5)) "$((2 * stride))"
commands build "$atelier" data build "$work/pictures" --out "$work/run/set.h5" --cache latents,text --model "$model" --resolution 32 --dtype f32
commands sdxl-build "$atelier" data build "$work/pictures" --out "$work/run/set.h5" --cache latents,text --resolution 32 --dtype f32 \
    --model "$here/tests/golden/models/sdxl"
commands sample "$atelier" sample --model "$model" --prompt "a cat" --steps 1 --seed 1,2 --threads 1 \
    --out "$work/run/cat.png" --save-latents "$work/run/latents.safetensors"
echo "$places faults"
[ $failures = 0 ]
