#!/bin/bash
# Going on from checkpoints that are not what they were: a damaged one is named, and the command that goes on from the one
# before it ends in the same bytes; one without its state is told of and kept; what is there counts for the disk. And the
# device is the one of before.
. "$(dirname "$0")/common" "$1"

pictures "$work/pictures" banana bell
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures}
method: {kind: lora, rank: 2}
train: {steps: 6, resolution: 32, threads: 1, ema: 0.9}
optimizer: {lr: 1.0e-3}
output: {dir: run, save_every: 2, keep: 3}
YAML
train() { expect "$1" "$atelier" train "$work/run.yaml" --set output.dir="$work/run" "${@:2}"; }
# again: the run of before, with checkpoints of steps 2, 4 and 6, and not finished
again() { rm -rf "$work/run"; cp -r "$work/whole" "$work/run"; sed -i '$d' "$work/run/log.jsonl"; }
same() { cmp "$work/whole/lora.safetensors" "$work/run/lora.safetensors" || fail "$*: another result"; }
says() { grep -qF -- "$1" "$work/err" || fail "\"$1\" is not said"; }
# rot FILE: one of its last digits, or a bit of its last number
rot() {
    case $1 in
    *.json) sed -i 's/^  "updates": 6/  "updates": 7/' "$1" ;;
    *) printf '\x01' | dd of="$1" bs=1 seek=$(($(wc -c < "$1") - 9)) conv=notrunc status=none ;;
    esac
}
train 0
mv "$work/run" "$work/whole"
last=$work/run/checkpoints/step-000006

# A part that is missing, empty, cut, or no file of tensors any more.
for file in weights.safetensors optimizer.safetensors ema.safetensors state.json; do
    for damage in rm empty cut rot; do
        [ $file-$damage != state.json-rm ] || continue
        again
        case $damage in
        rm) rm "$last/$file" ;;
        empty) : > "$last/$file" ;;
        cut) truncate -s -3 "$last/$file" ;;
        rot) rot "$last/$file" ;;
        esac
        status=0
        "$atelier" train "$work/run.yaml" --set output.dir="$work/run" --resume auto > "$work/out" 2> "$work/err" || status=$?
        [ $status = 1 ] || [ $status = 2 ] || fail "$file, $damage: status $status"
        says "$last: this checkpoint is damaged ($last/$file"
        says "--resume $work/run@4"
        [ -e "$last" ] || fail "$file, $damage: the damaged checkpoint is gone"
    done
done
train 0 --resume "$work/run@4"
says "going on after step 4 from $work/run/checkpoints/step-000004"
same "from the checkpoint before a damaged one"
# All of them: there is nothing to go on from.
again
: > "$last/weights.safetensors"
rm -r "$work/run/checkpoints/step-000002" "$work/run/checkpoints/step-000004"
"$atelier" train "$work/run.yaml" --set output.dir="$work/run" --resume auto > "$work/out" 2> "$work/err" && fail "a damaged checkpoint is taken"
says "there is none before it"

# What auto computed on is what the run goes on with, unless another device is asked for.
again
rm -r "$last"
grep -q '^  device: cpu$' "$work/run/config.yaml" || fail "config.yaml does not say what auto took"
sed -i 's/^  device: cpu$/  device: cuda:4711/' "$work/run/config.yaml"
train 2 --resume auto
says "train.device: cuda:4711: "
train 0 --resume auto --device cpu
same "on the device that is asked for"

# Without its state it is none: told of, kept, and the one before it is taken.
again
rm "$last/state.json"
train 0 --resume auto
says "$last: has no state.json"
says "going on after step 4"
[ -s "$last.damaged/weights.safetensors" ] || fail "a checkpoint without state is gone"
same "after a checkpoint without its state"

# Any checkpoint can be named, by the run and the step; a folder of one says how.
again
train 0 --resume auto@2
says "going on after step 2"
same "from step 2"
again
train 2 --resume "$work/run@3"
says "has no checkpoint of step 3; the last before it: --resume $work/run@2"
train 2 --resume "$work/run@1"
says "has no checkpoint of step 1, nor of an earlier one; its last: --resume $work/run@"
for name in step-000004 step-4 step-000004/; do
    train 2 --resume "$work/run/checkpoints/$name"
    says "by its folder: --resume $work/run@4"
done
mv "$work/run" "$work/run@2" # a folder of that very name
train 0 --resume "$work/run@2"
says "going on after step 6"

# The command that is printed goes on from where it was interrupted, not from where it began.
again
cp -r "$work/run" "$work/long"
"$atelier" train "$work/run.yaml" --set output.dir="$work/long" --set optimizer.schedule=constant --set train.steps=100000 \
    --allow-changes --resume "$work/long@2" > "$work/out" 2> "$work/err" & pid=$!
until [ "$(cat "$work/long/log.jsonl" | wc -l)" -ge 8 ]; do kill -0 $pid || fail "it ended"; sleep 0.01; done
kill -INT $pid; wait $pid || true
says "--resume $work/long"
! grep -qF "$work/long@2" "$work/err" || fail "the command goes back to step 2"

# A disk with room for the rest, and not for the whole once more.
again
rm -rf "$work/tiny" 2> /dev/null
if mkdir "$work/tiny" && mount -t tmpfs -o size=64m none "$work/tiny" 2> /dev/null; then
    cp -r "$work/run" "$work/tiny/run"
    used=$(du -sk "$work/tiny/run/checkpoints" | cut -f1)
    mount -o "remount,size=$(($(du -sk "$work/tiny" | cut -f1) + used / 2 + used / 6))k" "$work/tiny"
    status=0
    "$atelier" train "$work/run.yaml" --set output.dir="$work/tiny/run" --resume auto > "$work/out" 2> "$work/err" || status=$?
    umount "$work/tiny"
    ! grep -q "of disk" "$work/err" || fail "the disk is told to be too small though most is there"
fi

# A finished run whose result is gone makes it again from its last checkpoint; without one it says so.
finished() { rm -rf "$work/run"; cp -r "$work/whole" "$work/run"; }
finished
train 0 --resume auto
says "this run is finished; its results are there. For a longer one raise train.steps"
rm "$work/run/lora.safetensors"
train 0 --resume auto
says "$work/run/lora.safetensors: is gone; it is made again from the run's last checkpoint"
same "a result made again"
[ "$(grep -c '"done"' "$work/run/log.jsonl")" = 1 ] || fail "the end stands twice in the log"
rm -r "$work/run/lora.safetensors" "$work/run/checkpoints"
train 2 --resume auto
says "run/lora.safetensors is gone, and so are its checkpoints"

# A log that is gone, or has lost lines, stops no run.
again
rm -r "$last" "$work/run/log.jsonl"
train 0 --resume auto
says "log.jsonl: the lines of the steps up to the checkpoint are gone"
same "without a log"
[ "$(sed -n 's/^{"step":\([0-9]*\),.*/\1/p' "$work/run/log.jsonl" | tr '\n' ' ')" = "5 6 6 " ] || fail "another log"
again
rm -r "$last"
sed -i '3,$d' "$work/run/log.jsonl"
printf '{"step":3,"lo' >> "$work/run/log.jsonl"
train 0 --resume auto
says "log.jsonl: is shorter than the checkpoint says"
same "with a short log"
[ "$(sed -n 's/^{"step":\([0-9]*\),.*/\1/p' "$work/run/log.jsonl" | tr '\n' ' ')" = "1 2 5 6 6 " ] || fail "another log"

# A finished run is made longer, where the learning rate does not depend on how long it is; else it is said why not.
level="--set optimizer.schedule=constant"
rm -rf "$work/run"; train 0 $level --set train.steps=8; mv "$work/run" "$work/eight"
train 0 $level
train 0 $level --set train.steps=8 --resume auto
says "train.steps is 8 and was 6: the steps that are done are the same with either"
cmp "$work/eight/lora.safetensors" "$work/run/lora.safetensors" || fail "a run made longer ends in another result"
diff <(grep -o '^{"step":[0-9]*' "$work/eight/log.jsonl") <(grep -o '^{"step":[0-9]*' "$work/run/log.jsonl") || fail "another log"
train 0 $level --set train.steps=0 --set train.epochs=5 --resume auto # 10 steps
[ "$(grep -o '^{"step":[0-9]*' "$work/run/log.jsonl" | tail -1)" = '{"step":10' ] || fail "epochs do not make it longer"
finished
train 2 --set train.steps=8 --resume auto
says "train.steps is 8 and was 6, and with this optimizer.schedule every step's learning rate follows from the length"
says "--allow-changes"

# One that is to be shorter than what is done: no two sentences that cannot both be true.
rm -rf "$work/run"
train 0 $level
sed -i '$d' "$work/run/log.jsonl"
train 2 $level --set train.steps=5 --resume auto
says "has done 6 steps already, of the 5 that are asked for"
! grep -q "not changed\|same with" "$work/err" || fail "it contradicts itself"

# What is left after going on counts previews and validation, which were timed before.
# What takes less than a 200th of all is not named: once more where the machine was busy with something else meanwhile.
shown="--set preview.every=1 --set preview.prompts=[a] --set preview.steps=1 --set validation.share=0.5 --set validation.every=1"
left="time left  about .*, validation .*, previews "
for _ in 1 2 3 4 5 6; do
    rm -rf "$work/run"
    train 0 $level $shown --set train.steps=2
    train 0 $level $shown --set train.steps=4 --resume auto
    ! grep -q "$left" "$work/err" || break
done
grep -q "$left" "$work/err" || fail "the time left leaves something out"

# The best step's checkpoint is kept, whatever output.keep and save_every say, and named at the end; a run that was stopped
# and gone on with keeps the same one.
rm -rf "$work/run"
held="--set validation.share=0.5 --set validation.every=1 --set output.keep=1 --set output.save_every=4 --set optimizer.lr=0.3"
train 0 $held --set train.steps=12 --set optimizer.schedule=constant
read -r least best <<< "$(sed -n 's/^{"step":\([0-9]*\),.*"validation_loss":\([0-9.e-]*\).*/\2 \1/p' "$work/run/log.jsonl" | sed '$d' | sort -g | head -1)"
[ "$best" -lt 12 ] || fail "the best step is the last, so that this shows nothing"
says "$(printf 'at step %d: %s/checkpoints/step-%06d (a LoRA as it stands: ema.safetensors)' "$best" "$work/run" "$best")"
grep -q "\"done\":true.*\"best_step\":$best,\"best_validation_loss\":$least" "$work/run/log.jsonl" || fail "the log does not name the best step, $best"
[ "$(cd "$work/run/checkpoints" && echo step-*)" = "$(printf 'step-%06d step-000012' "$best")" ] || fail "other checkpoints: $(ls "$work/run/checkpoints")"
expect 0 "$atelier" lora info "$work/run/checkpoints/$(printf 'step-%06d' "$best")/ema.safetensors"
mv "$work/run" "$work/in-one"
train 0 $held --set train.steps=8 --set optimizer.schedule=constant
train 0 $held --set train.steps=12 --set optimizer.schedule=constant --resume auto
diff <(cd "$work/in-one" && find . | sort) <(cd "$work/run" && find . | sort) || fail "gone on with, it keeps other checkpoints"
