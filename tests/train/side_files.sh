#!/bin/bash
# A side file that cannot be written costs no training: the state is saved first, then the run ends with status 1, and it
# goes on to the same bytes. A second signal says what was kept. Breaks if steps since the last checkpoint are lost.
. "$(dirname "$0")/common" "$1"

pictures "$work/pictures" banana bell bicycle
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures}
method: {kind: lora, rank: 2}
train: {steps: 160, batch: 2, resolution: 32, threads: 1, seed: 3}
optimizer: {lr: 1.0e-3}
preview: {every: 80, prompts: [a bell], steps: 1}
output: {dir: run, save_every: 50}
YAML
train() { expect "$1" "$atelier" train "$work/run.yaml" "${@:2}"; }
train 0 --set output.dir=whole

# start NAME LINES OPTION...: a run that stands still after about so many steps
start() { standing "$work/$1/log.jsonl" "$2" "$atelier" train "$work/run.yaml" --set output.dir="$1" "${@:3}"; }
# ends NAME STATUS: that run's end
ends() {
    local status=0
    wait $pid || status=$?
    [ $status = "$2" ] || fail "$1: status $status, not $2"
}
goes_on() { # NAME: to the end of a run that nothing happened to
    train 0 --set output.dir="$1" --resume auto
    cmp "$work/whole/lora.safetensors" "$work/$1/lora.safetensors" || fail "$1: another result"
    for step in 000080 000160; do
        cmp "$work/whole/samples/step-$step.png" "$work/$1/samples/step-$step.png" || fail "$1: another preview"
    done
    [ "$(wc -l < "$work/whole/log.jsonl")" = "$(wc -l < "$work/$1/log.jsonl")" ] || fail "$1: another log"
}

# The folder of previews is gone, and a file has its name.
start samples 20 # the samples of step 0 are there
rm -r "$work/samples/samples"; : > "$work/samples/samples"
kill -CONT $pid
ends samples 1
grep -q "samples/samples: is a file where a folder is needed" "$work/err" || fail "the cause is not named"
grep -q "the checkpoint of step 80 is whole; to go on from it: atelier train .*--resume auto" "$work/err" ||
    fail "it does not say what was kept"
rm "$work/samples/samples"
mkdir "$work/samples/samples"; cp "$work/whole/samples/step-000000.png" "$work/samples/samples"
goes_on samples

# The folder may not be written to, as on a disk that has gone bad: the preview's file fails as the whole folder does.
start traced 20 --trace "$work/trace"
rm -r "$work/trace"; : > "$work/trace"
kill -CONT $pid
ends traced 1
grep -q "the checkpoint of step [1-9]" "$work/err" || fail "a trace that cannot be written costs the training"
goes_on traced

# A second signal: at once, with one line of what was kept and how to go on.
start signals 70
kill -TERM $pid; kill -INT $pid # both wait for it
kill -CONT $pid
ends signals 130
grep -q "^ended at once by a second signal; the checkpoint of step [0-9]* is kept. Go on with: atelier train .*--resume auto$" "$work/err" ||
    fail "a second signal says nothing"
goes_on signals
