#!/bin/bash
# An epoch is every picture with its repeats once, whatever the batch: the plan, the number of steps, the log and the
# result say the same. Breaks if one of them counts steps that are rounded up to whole epochs, or batches.
. "$(dirname "$0")/common" "$1"

mkdir "$work/pictures"
for name in banana bell bicycle butterfly; do
    cp "$here/data/examples/$name.jpg" "$work/pictures"
done
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures, repeats: 5, caption: {missing: a thing}}
method: {kind: lora, rank: 2}
train: {epochs: 3, batch: 4, accumulate: 3, resolution: 32, threads: 1}
optimizer: {lr: 1.0e-3}
output: {dir: run}
YAML
train() { expect "$1" "$atelier" train "$work/run.yaml" "${@:2}"; }
# told STEPS EPOCHS OPTION...: what the plan says of the run
told() {
    train 0 --plan --no-time --json "${@:3}"
    grep -q "\"steps\": $1," "$work/out" || fail "not $1 steps: ${*:3}"
    grep -q "\"epochs\": $2," "$work/out" || fail "not $2 epochs: ${*:3}"
}
# logged EPOCH...: the log's lines
logged() {
    local found
    found=$(grep -o '"epoch":[0-9.]*' "$work/$1/log.jsonl" | cut -d: -f2 | paste -sd' ')
    [ "$found" = "${*:2}" ] || fail "the log's epochs are $found, not ${*:2}"
}

# 4 pictures × 5 repeats, 12 a step: three epochs are five steps, as the plan, the log and the LoRA say.
told 5 3.0
train 0 --plan --no-time
grep -q "20 pictures an epoch ÷ 12 a step (batch 4 × accumulate 3) = 1.667 steps an epoch; 5 steps = 3 epochs" "$work/out" ||
    fail "the plan says something else"
train 0
logged run 0.6 1.2 1.8 2.4 3.0
for part in '"ss_steps":"5"' '"ss_num_epochs":"3"' '"ss_num_batches_per_epoch":"5"'; do
    grep -qa "$part" "$work/run/lora.safetensors" || fail "the LoRA lacks $part"
done

# A batch that is larger than an epoch.
told 2 8.0 --set dataset.repeats=1 --set train.batch=16 --set train.accumulate=1 --set train.epochs=8
train 0 --set dataset.repeats=1 --set train.batch=16 --set train.accumulate=1 --set train.epochs=8 --set output.dir=large
logged large 4.0 8.0
# The last step may go over the end, by less than a step.
told 2 1.2 --set train.epochs=1
# Numbers that run over are refused, not wrapped.
train 2 --plan --no-time --set train.epochs=1000000000 --set dataset.repeats=100000
grep -q "comes to 33333333333334 steps" "$work/err" || fail "too many epochs are not refused"
