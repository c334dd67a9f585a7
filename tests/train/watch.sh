#!/bin/bash
# A run's previews and class pictures under the configuration's section safety. Breaks if a flagged preview is kept, if a
# black class picture would be trained on, if a forbidden prompt is drawn, or if the plan forgets the checker.
#
#     watch.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
cd "$work" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
cp -r "$here/tests/golden/models/sd1" base
cp -r "$here"/tests/golden/safety/model/* base
mkdir pictures
cp "$here"/data/examples/{banana,bell}.jpg pictures
cat >run.yaml <<'Y'
model: {base: base, dtype: f32}
dataset: {path: pictures, caption: {missing: thing}}
train: {steps: 1, batch: 1, resolution: 32, threads: 1}
preview: {every: 1, prompts: [a red cat], steps: 1}
output: {dir: plain}
Y
# train WANTED_STATUS FOLDER SETTINGS...
train() {
    local sets=() set
    for set in "${@:3}"; do sets+=(--set "$set"); done
    run "$1" train run.yaml --set output.dir="$2" "${sets[@]}"
}
train 0 plain
train 0 passed safety.check=on
[ "$(tail -c 600 plain/samples/step-000001.png | cksum)" = "$(tail -c 600 passed/samples/step-000001.png | cksum)" ] ||
    fail "the checker changes a preview that it lets through"

# its weights and its memory are in the plan
weights_of() { sed -n 's/.*"weights": \([0-9]*\).*/\1/p' "$work/out" | head -n 1; }
run 0 train run.yaml --plan --no-time --json
without=$(weights_of)
run 0 train run.yaml --plan --no-time --json --set safety.check=on
[ -n "$without" ] && [ "$(weights_of)" -gt "$without" ] || fail "the plan forgets the checker: $without, then $(weights_of)"

# every concept's threshold becomes -1 (f16: 0xBC00): all is flagged
weights=base/safety_checker/model.safetensors
header=$(od -An -tu8 -N8 $weights)
first=$(head -c 4096 $weights | grep -aoE '"concept_embeds_weights":\{[^}]*' | grep -oE '\[[0-9]+,[0-9]+\]' | tr -d '[' | cut -d, -f1)
for _ in {1..17}; do printf '\000\274'; done | dd of=$weights bs=1 seek=$((8 + header + first)) conv=notrunc status=none
train 0 black safety.check=auto
says "the safety checker flags this picture"
[ "$(stat -c %s black/samples/step-000001.png)" -lt "$(stat -c %s plain/samples/step-000001.png)" ] ||
    fail "the flagged preview is not black"
train 0 off safety.check=off
cmp -s off/samples/step-000001.png plain/samples/step-000001.png || fail "off is not off"
prior=(prior.path=class "prior.prompt=a thing" prior.pictures=2 prior.steps=1 prior.resolution=32)
train 1 class-run safety.check=on "${prior[@]}"
says "class picture"
says "the safety checker flags it"
[ ! -e class/class-00000.png ] || fail "a black class picture lies there to be trained on"
train 0 class-run "${prior[@]}"
rm -r base/safety_checker
train 2 none safety.check=on
says "has no safety checker"

# words, and the mark
echo "red cat" >words.txt
train 2 none safety.prompt_filter=words.txt
says 'preview.prompts: the prompt has `red cat` in it'
train 2 none safety.prompt_filter=words.txt "preview.prompts=[dog]" "${prior[@]}" "prior.prompt=a red cat"
says 'prior.prompt: the prompt has `red cat` in it'
train 2 none safety.prompt_filter=nowhere.txt
train 2 none safety.watermark=on
says "32x32 is too small"
train 0 marked safety.watermark=mine preview.width=320 preview.height=256
run 0 picture watermark marked/samples/step-000001.png --text mine
grep -q "mine (" out || fail "the preview is not marked: $(cat out)"
finish "what a run draws is watched as the configuration says"
