#!/bin/bash
# A run killed again and again goes on from its last checkpoint, and ends in the same bytes as one that was never stopped.
#
#     kill.sh ATELIER [N]     N kills at random moments, of LoRA and whole-model runs in turn, instead of a few chosen ones
set -eu
atelier=$1
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/lora.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: $work/pictures, caption: {dropout: 0.1, shuffle: true}, augment: {flip: true}}
method: {kind: lora, rank: 4, text_encoder: true}
train: {steps: 12, batch: 1, accumulate: 2, resolution: 32, ema: 0.9, threads: 1}
optimizer: {lr: 1.0e-3, warmup: 2}
validation: {share: 0.2, every: 4}
preview: {every: 6, prompts: [a cat], steps: 2}
output: {save_every: 3, keep: 2, formats: [kohya, peft], dir: $work/none}
YAML
sed -e 's/^method:.*/method: {kind: full, text_encoder: true}/' -e 's/formats: \[kohya, peft\], //' "$work/lora.yaml" > "$work/full.yaml"
mkdir "$work/pictures"
for name in banana bell bicycle butterfly cactus carrot; do
    cp "$here/data/examples/$name.jpg" "$work/pictures"
    echo "neon, $name, black" > "$work/pictures/$name.txt"
done
run() { "$atelier" train "$work/$kind.yaml" --set output.dir="$work/$1" "${@:2}" >> "$work/$1.log" 2>&1; }
start() { "$atelier" train "$work/$kind.yaml" --set output.dir="$work/$1" --resume auto >> "$work/$1.log" 2>&1 & pid=$!; }

failed=0
fail() { echo "$*"; failed=1; }

# same_end WHOLE KILLED: every file of the undisturbed run, no other, the same bytes but for times.
times='s/"\([a-z_]*seconds\|elapsed\|peak_bytes\|memory_bytes\|allocated_bytes\|log_bytes\)": *[0-9.e-]*//g; s/"sum": "[0-9a-f]*"//'
same_end() {
    local file
    diff <(cd "$work/$1" && find . | sort) <(cd "$work/$2" && find . | sort) || fail "other files"
    while read -r file; do
        case $file in
        *.cache | */config.yaml | */events.out.*) ;;
        ./report.html) [ "$(tail -n 1 "$work/$2/$file")" = "</html>" ] || fail "$file is not whole" ;; # of times
        *.json | *.jsonl) diff <(sed "$times" "$work/$1/$file") <(sed "$times" "$work/$2/$file") || fail "$file" ;;
        *) cmp "$work/$1/$file" "$work/$2/$file" || fail "$file" ;;
        esac
    done < <(cd "$work/$1" && find . -type f)
}

# A run that is through is compared, and forgotten.
through() {
    same_end "whole-$kind" killed
    rm -rf "$work/killed" "$work/killed.log"
    ends=$((ends + 1))
    [ $failed = 0 ] || exit 1
}

# Half of the N kills hit LoRA runs, half whole-model ones, at moments of up to two thirds of what a whole run takes.
at_random() {
    local kills=0 inside=0 ends=0 wanted=0 length moment status began
    for kind in lora full; do
        began=${EPOCHREALTIME/[.,]/}
        run "whole-$kind" || { cat "$work/whole-$kind.log"; exit 1; }
        length=$(((${EPOCHREALTIME/[.,]/} - began) * 2 / 3))
        wanted=$((kills + $1 / 2))
        while [ $kills -lt $wanted ]; do
            moment=$(((RANDOM * 32768 + RANDOM) % length))
            start killed
            sleep "$((moment / 1000000)).$(printf %06d $((moment % 1000000)))"
            kill -KILL $pid 2> /dev/null || true
            status=0
            wait $pid 2> /dev/null || status=$?
            case $status in
            0) through ;;
            137)
                kills=$((kills + 1))
                [ -z "$(find "$work/killed" \( -name '*.atelier-*' -o -name '.step-*' \) 2> /dev/null)" ] || inside=$((inside + 1))
                ;;
            *) fail "--resume auto: status $status: $(tail -n 2 "$work/killed.log")"; exit 1 ;;
            esac
        done
        run killed --resume auto || { cat "$work/killed.log"; exit 1; }
        through
    done
    echo "$kills kills, $inside of them while a file or a checkpoint was being written; $ends runs gone on with to their end," \
        "all with the same bytes"
}
if [ -n "${2:-}" ]; then
    at_random "$2"
    exit $failed
fi

kind=lora
run whole || { cat "$work/whole.log"; exit 1; }

# Killed when the log has its 1st, 4th, 5th, … line, whatever the program does at that moment; asked to stop at the 8th.
for at in 1 4 5 8 10 12; do
    start killed
    while kill -0 $pid 2> /dev/null; do
        [ "$(cat "$work/killed/log.jsonl" 2> /dev/null | wc -l)" -ge $at ] && break
        sleep 0.01
    done
    [ $at = 8 ] && kill -INT $pid 2> /dev/null || kill -KILL $pid 2> /dev/null || true
    wait $pid 2> /dev/null || true
    # and the run's folder is moved on the way
    [ $at != 5 ] || { mv "$work/killed" "$work/moved"; "$atelier" train "$work/$kind.yaml" --resume "$work/moved" >> "$work/moved.log" 2>&1 & pid=$!
                      while kill -0 $pid 2> /dev/null && [ "$(wc -l < "$work/moved/log.jsonl")" -lt 7 ]; do sleep 0.01; done
                      kill -KILL $pid 2> /dev/null || true; wait $pid 2> /dev/null || true
                      mv "$work/moved" "$work/killed"; }
done
run killed --resume auto || { cat "$work/killed.log"; exit 1; }
same_end whole killed

# Two at a time in one folder are refused, as is a folder with a run without --resume; a finished one is left alone.
"$atelier" train "$work/lora.yaml" --set output.dir="$work/busy" --set train.steps=1000 > /dev/null 2>&1 & pid=$!
while [ ! -e "$work/busy/log.jsonl" ] && kill -0 $pid; do sleep 0.01; done
status=0; run busy --resume auto || status=$?
grep -q "number $pid, is training here" "$work/busy.log" || fail "the process is not named"
[ $status = 2 ] || { echo "two runs at once in one folder: status $status, not 2"; failed=1; }
kill $pid; wait $pid || true
status=0; run killed || status=$?
[ $status = 2 ] || { echo "a second run in the same folder: status $status, not 2"; failed=1; }
grep -q -- "--resume auto" "$work/killed.log" || failed=1
run killed --resume auto || { echo "--resume auto on a finished run failed"; failed=1; }
exit $failed
