#!/bin/bash
# One of something is told as one, in everything that a run and the other commands say.
. "$(dirname "$0")/common" "$1"

# "1 pictures", "1 steps"; but 0.1 seconds, 21 steps and 1 × 3 are right.
one() {
    ! grep -nE '(^|[^0-9.,×÷]) ?1 (class |caption )?(pictures|steps|epochs|repeats|captions|modules|threads|files|keys|tensors|tokens|seconds|folders|datasets|layers|errors|notes|parts|stay|are|have)\b' \
        "$work/out" "$work/err" || fail "$*: one is told as several"
}
mkdir "$work/pictures"
cp "$here/data/examples/bell.jpg" "$here/data/examples/bell.txt" "$work/pictures"
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures}
method: {kind: lora, rank: 1}
train: {steps: 1, resolution: 32, threads: 1}
output: {dir: run, keep: 1}
preview: {every: 1, prompts: [a], steps: 1}
YAML
check() { # STATUS COMMAND…
    expect "$@"
    one "${@:2}"
}
check 0 "$atelier" config check "$work/run.yaml"
check 0 "$atelier" train "$work/run.yaml" --plan
check 0 "$atelier" train "$work/run.yaml"
check 0 "$atelier" train "$work/run.yaml" --resume auto
check 2 "$atelier" train "$work/run.yaml" --set validation.share=0.9 --set output.dir=none
check 0 "$atelier" train "$work/run.yaml" --set output.dir=class --set prior.path=classes --set prior.prompt=a --set prior.pictures=1 --set prior.steps=1
check 0 "$atelier" data build "$work/pictures" --out "$work/set.h5"
check 0 "$atelier" data info "$work/set.h5"
check 0 "$atelier" data lint "$work/set.h5"
check 2 "$atelier" train "$work/run.yaml" --set output.dir=none --set prior.path=set.h5 --set prior.prompt=a --set prior.pictures=2
rm "$work/pictures/bell.txt"
check 1 "$atelier" data build "$work/pictures" --out "$work/none.h5"
check 1 "$atelier" data lint "$work/pictures"
check 0 "$atelier" data build "$work/pictures" --out "$work/one.h5" --caption a
check 0 "$atelier" train "$work/run.yaml" --set dataset.caption.missing=a --set output.dir=missing
check 0 "$atelier" sample --model "$here/tests/golden/models/sd1" --dtype f32 --prompt a --steps 1 --threads 1 --out "$work/a.png"
check 0 "$atelier" lora info "$work/run/lora.safetensors"
