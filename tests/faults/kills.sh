#!/bin/bash
# A run killed before each of its writing system calls in turn, and in the middle of each write: inside saves, exports,
# the building of datasets and caches. Breaks if --resume auto would not end in the same files and bytes as a run that
# was never stopped, or a killed save would harm the checkpoint before it.
#
#     kills.sh ATELIER [STRIDE]       every STRIDE-th call (1: all, which takes minutes)
. "$(dirname "$0")/common" "$1"
stride=${2:-61}
kills=0

runs() {
    local kind=$1 fault=$2 n=$3 what
    while :; do
        rm -rf "$work/run"
        disturbed "$fault" "$n" "$atelier" train "$work/$kind.yaml" 2> /dev/null
        [ -e "$work/fault" ] || break
        what="$kind, $(cat "$work/fault") ($n)"
        whole_files "$kind" "$what"
        # and once more on the way: the second kill hits what the first one left
        disturbed "$fault" $((1 + n * 7 % 61)) "$atelier" train "$work/$kind.yaml" --resume auto 2> /dev/null
        go_on "$kind" "$what"
        kills=$((kills + 1))
        n=$((n + stride))
    done
}

undisturbed lora
undisturbed full
runs lora kill 1
runs lora half $((1 + stride / 2))
runs full kill $((1 + stride / 3))
runs full half $((1 + stride * 2 / 3))
echo "$kills places"
[ $failures = 0 ]
