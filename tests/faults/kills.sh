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

# A command that writes in one go.
command_killed() {
    whole_files "$1" "$4"
    again "$1" "$4" "${command[@]}"
}
runs() { everywhere "$2" "$3" "$stride" "$1" killed "$atelier" train "$work/$1.yaml"; }

undisturbed_run lora
undisturbed_run full
undisturbed_run prior
command=("$atelier" data build "$work/pictures" --out "$work/run/set.h5" --cache latents,text --resolution 32 --dtype f32
    --model "$here/tests/golden/models/sd1")
undisturbed build "${command[@]}"
runs lora kill 1
runs lora half $((1 + stride / 2))
runs full kill $((1 + stride / 3))
runs full half $((1 + stride * 2 / 3))
runs prior kill $((1 + stride / 2))
runs prior half $((1 + stride / 3))
for fault in kill half; do everywhere $fault $((1 + stride / 4)) "$stride" build command_killed "${command[@]}"; done

# What a living process uses is not taken for something left behind: one stands still while another builds the same.
rm -rf "$work/run"
disturbed stop 9 "${command[@]}" & builder=$!
comes $builder test -e "$work/fault" || fail "two at once: the first one ended"
"${command[@]}" > /dev/null 2>&1 || fail "two at once: status $?"
cmp -s "$work/run/set.h5" "$work/whole-build/set.h5" || fail "two at once: the dataset differs"
find "$work/run" | grep -q "atelier-part" || fail "two at once: the first one's files are gone"
kill -CONT "$(sed -n "s/.*-part-\([0-9]*\).*/\1/p" "$work/fault")" || fail "two at once: the first one is gone"
wait $builder || fail "two at once, the first one: status $?: $(cat "$work/err")"
same_end build "two at once"
echo "$places places"
[ $failures = 0 ]
