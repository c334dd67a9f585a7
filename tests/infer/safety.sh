#!/bin/bash
# `atelier sample` with the parts that a user turns on against misuse: the model's safety checker, the list of phrases, the
# watermark; and the model's licence on its way into what is made.
# Breaks if a flagged picture is written as it is, if what was asked for is left out in silence, or if the licence is lost.
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
# programs that do not check pictures
for program in a1111 comfy; do
    draw 0 $guarded --compat $program --out theirs.png
    grep -q "safety" err && fail "--compat $program checks pictures: $(cat err)"
    draw 0 $guarded --compat $program --safety on --out theirs.png
    says "seed 5: the safety checker flags this picture"
done

rm $weights
draw 2 $guarded --out none.png
says "safety_checker"
draw 0 $guarded --safety off --out open.png
# the list: before anything is loaded, also for a model that is not there
printf '# ours\nred heart\n' >list.txt
draw 2 $plain --prompt-filter list.txt --out none.png
says 'the prompt has `red heart` in it, which list.txt forbids (line 2)'
run 2 sample --model nowhere --prompt "RED, (heart:1.2)" --prompt-filter list.txt
says 'red heart'
run 0 sample --model $plain --prompt "a red cat" --negative "red heart" --steps 1 --prompt-filter list.txt --out cat.png
draw 2 $plain --prompt-filter none.txt
says "none.txt"

# the watermark: written, said in the settings, and read again
size=(--width 320 --height 256)
draw 0 $plain "${size[@]}" --out bare.png
draw 0 $plain "${size[@]}" --watermark on --out marked.png
draw 0 $plain "${size[@]}" --watermark "made by me" --out mine.png
grep -aqF '"watermark":"made by me"' mine.png || fail "the settings do not say the watermark"
run 0 picture watermark bare.png marked.png mine.png
grep -qxF "bare.png: no watermark" out || fail "a watermark is seen where none is: $(cat out)"
grep -q "^marked.png: StableDiffusionV1 (" out || fail "the watermark is not found: $(cat out)"
run 0 picture watermark mine.png --text "made by me" --json
grep -q '"found": true' out || fail "one's own watermark is not found: $(cat out)"
run 0 picture watermark mine.png --text "made by you"
grep -q "no watermark" out || fail "another's watermark is found: $(cat out)"
draw 0 $plain "${size[@]}" --watermark on --out marked.jpg
says "JPEG"
draw 2 $plain --watermark on --out none.png
says "32x32 is too small"
draw 0 $plain --watermark on --hires 8 --hires-steps 1 --hires-strength 1 --out large.png
run 0 picture watermark large.png
grep -q "^large.png: StableDiffusionV1 (" out || fail "the final size of two passes does not count: $(cat out)"
draw 2 $plain --watermark on --hires 4 --out none.png
says "128x128 is too small"
draw 0 $plain --watermark off --out off.png
[ "$(tail -c 1000 off.png | cksum)" = "$(tail -c 1000 plain.png | cksum)" ] || fail "--watermark off changes the picture"
run 2 picture watermark nowhere.png
run 1 picture watermark list.txt
says "list.txt"

# the licence: shown, and in the picture's settings
run 0 model info $plain --json
grep -q '"license": null' out || fail "a licence from nowhere: $(grep license out)"
printf -- '---\nlicense: creativeml-openrail-m\n---\n' >$plain/README.md
run 0 model info $plain
grep -qi 'license.*creativeml-openrail-m' out || fail "model info does not say the licence: $(cat out)"
grep -q 'use restrictions' out || fail "model info does not say what the licence asks: $(cat out)"
draw 0 $plain --out licensed.png
grep -aqF '"license":"creativeml-openrail-m"' licensed.png || fail "the picture does not say the licence"
finish "checker, list, watermark and licence do what is asked of them"
