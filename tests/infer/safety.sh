#!/bin/bash
# `atelier sample` with the parts that a user turns on against misuse: the model's safety checker.
# Breaks if a flagged picture is written as it is, or if what was asked for is left out in silence.
#
#     safety.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
cd "$work" || exit 1
# gcc 12's leak checker falls over the thread-local memory of libraries opened late
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
mkdir without with
cp -r "$here/tests/golden/models/sd1" without
cp -r "$here/tests/golden/models/sd1" with
plain=without/sd1 guarded=with/sd1
cp -r "$here"/tests/golden/safety/model/* $guarded

# Every concept's threshold becomes -1 (f16: 0xBC00), below which no cosine is.
weights=$guarded/safety_checker/model.safetensors
header=$(od -An -tu8 -N8 $weights)
first=$(head -c 4096 $weights | grep -aoE '"concept_embeds_weights":\{[^}]*' | grep -oE '\[[0-9]+,[0-9]+\]' | tr -d '[' | cut -d, -f1)
make_strict() {
    for _ in {1..17}; do printf '\000\274'; done |
        dd of=$weights bs=1 seek=$((8 + header + first)) conv=notrunc status=none
}

# draw WANTED_STATUS MODEL ARGUMENTS...
draw() {
    run "$1" sample --model "$2" --prompt "a red heart" --steps 2 --seed 5 "${@:3}"
}

# a picture that the checker lets through is the picture without it
draw 0 $plain --out plain.png
draw 0 $guarded --out passed.png
cmp -s plain.png passed.png || fail "the checker changed a picture that it lets through"
draw 0 $plain --safety auto --out plain.png
draw 2 $plain --safety on --out none.png
says "$plain has no safety checker"
[ ! -e none.png ] || fail "a picture was drawn without the checker that was asked for"

make_strict
draw 0 $guarded --out black.png
says "seed 5: the safety checker flags this picture"
[ "$(stat -c %s black.png)" -lt "$(stat -c %s plain.png)" ] || fail "the flagged picture is not black"
draw 0 $guarded --safety off --out open.png
[ ! -s err ] || grep -q "safety" err && fail "the checker works though it is off: $(cat err)"
cmp -s black.png open.png && fail "the checker does nothing"

rm $weights
draw 2 $guarded --out none.png
says "safety_checker"
draw 0 $guarded --safety off --out open.png
finish "the safety checker does what is asked of it"
