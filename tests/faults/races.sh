#!/bin/bash
# Whole runs of the program where threads and signals meet: pictures decoded by loader threads while a step computes,
# class pictures, previews, validation, checkpoints, SIGINT, SIGTERM and both in the middle, and going on; `data build`
# and `sample`. In a build with -DATELIER_SANITIZE=thread (docs/numbers.md) it breaks at any data race or unsafe call in a
# signal's handler; in every build, if a stopped run does not end in an uninterrupted one's bytes.
#
#     races.sh ATELIER
. "$(dirname "$0")/common" "$1"
export TSAN_OPTIONS=${TSAN_OPTIONS:+$TSAN_OPTIONS:}log_path=$work/races:exitcode=66
model=$here/tests/golden/models/sd1

# run WANTED_STATUS COMMAND…
run() {
    local wanted=$1 status=0
    shift
    "$@" > "$work/out" 2> "$work/err" < /dev/null || status=$?
    [ $status = "$wanted" ] || fail "$*: status $status, not $wanted: $(tail -n 3 "$work/err")"
}

cat > "$work/race.yaml" <<YAML
model: {base: $model, dtype: f32}
dataset: {path: $work/set.h5, caption: {dropout: 0.1, shuffle: true}, augment: {flip: true}, crop: random}
prior: {path: $work/class, prompt: a cat, pictures: 2, steps: 1}
method: {kind: lora, rank: 2, targets: attention, text_encoder: true}
train: {steps: 12, batch: 2, resolution: 32, ema: 0.9, loader_threads: 3, cache_latents: false, threads: 1}
optimizer: {lr: 1.0e-3}
validation: {share: 0.5, every: 3}
preview: {every: 4, prompts: [a cat], steps: 1}
output: {save_every: 2, keep: 2, formats: [kohya, peft], dir: $work/run}
YAML

run 0 "$atelier" data build "$work/pictures" --out "$work/set.h5" --cache latents,text --model "$model" --resolution 32 --dtype f32
run 0 "$atelier" train "$work/race.yaml"
mv "$work/run" "$work/whole"
run 0 "$atelier" sample --model "$model" --lora "$work/whole/lora.safetensors" --prompt "a cat" --steps 2 --seed 1,2 --threads 1 \
    --out "$work/sampled"

# stopped SIGNAL… STEP: the signals come when the log has that step's line; the run may have ended by then.
stopped() {
    local step=${*: -1} status=0
    "$atelier" train "$work/race.yaml" --resume auto > "$work/out" 2> "$work/err" < /dev/null & local run=$!
    while kill -0 $run 2> /dev/null && ! grep -qs "\"step\": $step," "$work/run/log.jsonl"; do sleep 0.01; done
    for signal in "${@:1:$#-1}"; do kill -"$signal" $run 2> /dev/null; done
    wait $run || status=$?
    [ $status = 130 ] || [ $status = 0 ] || fail "$* : status $status: $(tail -n 3 "$work/err")"
}
stopped INT 1
stopped TERM 4
stopped INT TERM 7 # the second ends it at once
stopped INT 9
run 0 "$atelier" train "$work/race.yaml" --resume auto
cmp "$work/run/lora.safetensors" "$work/whole/lora.safetensors" || fail "the stopped run has another result"

for report in "$work"/races.*; do
    [ ! -e "$report" ] || fail "$(head -n 40 "$report")"
done
[ $failures = 0 ]
