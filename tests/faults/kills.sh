#!/bin/bash
# A run killed before each of its writing system calls in turn, and in the middle of each write: inside saves, exports,
# the building of datasets and caches. Breaks if --resume auto would not end in the same files and bytes as a run that
# was never stopped, or a killed save would harm the checkpoint before it.
#
#     kills.sh ATELIER [STRIDE]       every STRIDE-th call (1: all, which takes minutes)
. "$(dirname "$0")/common" "$1"
stride=${2:-61}

killed() {
    whole_files "$1" "$4"
    # and once more on the way: the second kill hits what the first one left
    disturbed "$2" $((1 + n * 7 % 61)) "$atelier" train "$work/$1.yaml" --resume auto 2> /dev/null
    go_on "$1" "$4"
}
runs() { everywhere "$2" "$3" "$stride" "$1" killed "$atelier" train "$work/$1.yaml"; }

undisturbed_run lora
undisturbed_run full
runs lora kill 1
runs lora half $((1 + stride / 2))
runs full kill $((1 + stride / 3))
runs full half $((1 + stride * 2 / 3))
echo "$places places"
[ $failures = 0 ]
