#!/bin/bash
# A run killed again and again goes on from its last checkpoint, and ends in the same bytes as one that was never stopped.
set -eu
atelier=$1
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: $work/pictures, caption: {dropout: 0.1, shuffle: true}, augment: {flip: true}}
method: {kind: lora, rank: 4, text_encoder: true}
train: {steps: 12, batch: 1, accumulate: 2, resolution: 32, ema: 0.9, threads: 1}
optimizer: {lr: 1.0e-3, warmup: 2}
validation: {share: 0.2, every: 4}
preview: {every: 6, prompts: [a cat], steps: 2}
output: {save_every: 3, keep: 2, formats: [kohya, peft], dir: $work/none}
YAML
mkdir "$work/pictures"
for name in banana bell bicycle butterfly cactus carrot; do
    cp "$here/data/examples/$name.jpg" "$work/pictures"
    echo "neon, $name, black" > "$work/pictures/$name.txt"
done
run() { "$atelier" train "$work/run.yaml" --set output.dir="$work/$1" "${@:2}" >> "$work/$1.log" 2>&1; }

run whole || { cat "$work/whole.log"; exit 1; }

# Killed when the log has its 1st, 4th, 5th, … line, whatever the program does at that moment; asked to stop at the 8th.
for at in 1 4 5 8 10 12; do
    "$atelier" train "$work/run.yaml" --set output.dir="$work/killed" --resume auto >> "$work/killed.log" 2>&1 & pid=$!
    while kill -0 $pid 2> /dev/null; do
        [ "$(cat "$work/killed/log.jsonl" 2> /dev/null | wc -l)" -ge $at ] && break
        sleep 0.01
    done
    [ $at = 8 ] && kill -INT $pid 2> /dev/null || kill -KILL $pid 2> /dev/null || true
    wait $pid 2> /dev/null || true
done
run killed --resume auto || { cat "$work/killed.log"; exit 1; }

failed=0
same() { cmp "$work/whole/$1" "$work/killed/$1" || failed=1; }
for file in lora.safetensors lora.peft.safetensors samples/step-000012.png samples/before-after.png \
            checkpoints/step-00001{2,2}/{weights,optimizer,ema}.safetensors; do
    same "$file"
done
diff <(ls "$work/whole/checkpoints") <(ls "$work/killed/checkpoints") || failed=1
times='s/"\(seconds\|peak_bytes\|memory_bytes\|allocated_bytes\)":[0-9.e-]*//g'
diff <(sed "$times" "$work/whole/log.jsonl") <(sed "$times" "$work/killed/log.jsonl") || failed=1

# Two at a time in one folder are refused, as is a folder with a run without --resume; a finished one is left alone.
"$atelier" train "$work/run.yaml" --set output.dir="$work/busy" > /dev/null 2>&1 & pid=$!
while [ ! -e "$work/busy/log.jsonl" ]; do sleep 0.01; done
status=0; run busy --resume auto || status=$?
[ $status = 2 ] || { echo "two runs at once in one folder: status $status, not 2"; failed=1; }
kill $pid; wait $pid || true
status=0; run killed || status=$?
[ $status = 2 ] || { echo "a second run in the same folder: status $status, not 2"; failed=1; }
grep -q -- "--resume auto" "$work/killed.log" || failed=1
run killed --resume auto || { echo "--resume auto on a finished run failed"; failed=1; }
[ $failed = 0 ] || cat "$work/killed.log"
exit $failed
