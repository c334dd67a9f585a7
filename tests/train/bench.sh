#!/bin/bash
# What `atelier bench` says of where the time goes. Breaks if --profile loses an operation or its arithmetic, if
# --against compares different work or does not compare the same, or if a file that is none ends in anything but status 2.
#
#     bench.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
export LC_ALL=C # awk reads numbers as the locale writes them
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 # why: commands.sh

tiny="--size tiny --dtype f32 --repeat 1 --threads 1"

# The operations' arithmetic is that of the whole, and each has a time.
adds_up() {
    awk '/"flop":/ { gsub(/[",]/, ""); if (!whole) whole = $2; else sum += $2 }
         /"seconds":/ { gsub(/[",]/, ""); rows++; if ($2 <= 0) none++ }
         END { exit !(rows > 20 && !none && sum > 0.9999 * whole && sum < 1.0001 * whole) }' "$1" ||
        fail "$1: the operations are not the whole, or one of them took no time"
}

for piece in unet encode train full; do
    # shellcheck disable=SC2086
    run 0 bench $piece $tiny --profile --json
    cp "$work/out" "$work/$piece.json"
    adds_up "$work/$piece.json"
done
grep -q '"op": "conv2d backward"' "$work/train.json" || fail "no backward pass in a training step's operations"

# Twice the pictures are twice the work, and another one.
# shellcheck disable=SC2086
run 0 bench encode $tiny --batch 2 --json
flop() { sed -n 's/^ *"flop": \([0-9.e+]*\),*$/\1/p' "$1" | head -1; }
awk -v one="$(flop "$work/encode.json")" -v two="$(flop "$work/out")" 'BEGIN { exit !(one > 0 && two > 1.9 * one && two < 2.1 * one) }' ||
    fail "--batch 2 is not twice the arithmetic"
# shellcheck disable=SC2086
run 2 bench encode $tiny --batch 2 --against "$work/encode.json"
says "another batch"
awk -v lora="$(flop "$work/train.json")" -v full="$(flop "$work/full.json")" 'BEGIN { exit !(full > 1.2 * lora) }' ||
    fail "training the whole is no more arithmetic than a LoRA"

# shellcheck disable=SC2086
run 0 bench unet $tiny --profile --against "$work/unet.json"
grep -q '^ratio ' "$work/out" || fail "--against says no ratio"
grep '^conv2d ' "$work/out" | head -1 | grep -qE '[0-9]+\.[0-9]+ +[0-9]+\.[0-9]+$' ||
    fail "--against has no ratio for an operation"

# shellcheck disable=SC2086
run 2 bench train $tiny --against "$work/unet.json"
says "another work"
# shellcheck disable=SC2086
run 2 bench clip $tiny --against "$work/absent.json"
echo '{"a": 1}' >"$work/other.json"
# shellcheck disable=SC2086
run 2 bench clip $tiny --against "$work/other.json"
says "not what"
echo '{"a": ' >"$work/broken.json"
# shellcheck disable=SC2086
run 2 bench clip $tiny --against "$work/broken.json"

finish "bench tells where the time goes"
