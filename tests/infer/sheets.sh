#!/bin/bash
# Many pictures by one command: sheets over settings, runs and strengths, prompt matrices, files of prompts.
#
#     sheets.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
model=$here/tests/golden/models/sd1
lora=$here/tests/golden/lora/kohya.safetensors
cd "$work" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0

draw() { # WANTED_STATUS ARGUMENTS...
    run "$1" sample --model "$model" --steps 2 "${@:2}"
}

same() {
    cmp -s "$1" "$2" || fail "$1 and $2 differ"
}

# width and height of a PNG
size_of() {
    od -An -tu1 -j16 -N8 "$1" | awk '{ print $3 * 256 + $4 "x" $7 * 256 + $8 }'
}

heart=(--prompt "a red heart")

# a sheet's pictures are those that their settings make alone
draw 0 "${heart[@]}" --sheet cfg=3,7.5 --sheet seed=1..3 --out sheet.png --sheet-pictures cells
[ "$(ls cells)" = "$(printf '%d.png\n' 1 2 3 4 5 6)" ] || fail "pictures of the sheet: $(ls cells)"
draw 0 "${heart[@]}" --cfg 7.5 --seed 3 --out alone.png
same cells/6.png alone.png
draw 0 "${heart[@]}" --cfg 3 --seed 2 --out alone.png
same cells/3.png alone.png
[ "$(size_of sheet.png)" != "$(size_of alone.png)" ] || fail "the sheet is no larger than a picture"
grep -aqF '"pictures":[{' sheet.png || fail "the sheet does not say how its pictures were made"

# the same without its name; a list of seeds is an axis; standard output
draw 0 "${heart[@]}" --sheet steps=1..3+2 --seed 1,2 --json
grep -q '"sheet": "atelier-sheet.png"' out || fail "no sheet in: $(cat out)"
[ "$(grep -c '"seed"' out)" = 4 ] || fail "four pictures are wanted: $(cat out)"
draw 0 "${heart[@]}" --sheet steps=1,3 --seed 1,2 --out -
same out atelier-sheet.png

# strengths and checkpoints
mkdir -p run/checkpoints/step-0000{10,20} run/checkpoints/.step-000030.part-1 run/checkpoints/step-000015.damaged
for step in 000010 000020; do
    cp "$lora" run/checkpoints/step-$step/weights.safetensors
    echo '{}' >run/checkpoints/step-$step/state.json
done
draw 0 "${heart[@]}" --sheet lora=0,1 --sheet checkpoint=run --out runs.png --sheet-pictures strengths
draw 0 "${heart[@]}" --lora "$lora:1" --out full.png
draw 0 "${heart[@]}" --out none.png
pixels() { # what is after the text chunks
    tail -c 600 "$1"
}
[ "$(pixels strengths/4.png | md5sum)" = "$(pixels full.png | md5sum)" ] || fail "the LoRA's full strength is another picture"
[ "$(pixels strengths/1.png | md5sum)" = "$(pixels none.png | md5sum)" ] || fail "the LoRA counts at strength 0"
[ "$(pixels strengths/1.png | md5sum)" != "$(pixels strengths/2.png | md5sum)" ] || fail "the strength changes nothing"
draw 0 "${heart[@]}" --sheet "checkpoint=none,run/checkpoints/step-000010,$lora" --out three.png

# what a run says of its previews is enough; what is given counts
cat >run/config.yaml <<END
model: {base: $model, dtype: f32}
dataset: [{path: hearts.h5}]
train: {steps: 20}
preview: {prompts: [a red heart, two], steps: 2, cfg: 4, sampler: euler, seed: 3}
output: {dir: .}
END
run 0 sample --sheet checkpoint=run --sheet lora=0,1 --out of_run.png --sheet-pictures of_run
run 0 sample --model "$model" --prompt "a red heart" --steps 2 --cfg 4 --sampler euler --seed 3 --out alone.png
[ "$(pixels of_run/1.png | md5sum)" = "$(pixels alone.png | md5sum)" ] || fail "not drawn as the run's previews"
run 0 sample --sheet checkpoint=run --prompt "a blue heart" --cfg 7.5 --out of_run.png --json
grep -q '"prompt": "a blue heart"' out || fail "the run's prompt counts: $(cat out)"
grep -q '"cfg": 7.5' out || fail "the run's cfg counts: $(cat out)"
rm run/config.yaml
run 2 sample --sheet checkpoint=run
says "--model is missing"

# models are loaded one after the other, whatever the order of the axes
cp -r "$model" other
draw 0 "${heart[@]}" --sheet seed=1,2 --sheet "model=$model,other" --out models.png --sheet-pictures of_models
[ "$(pixels of_models/1.png | md5sum)" = "$(pixels of_models/3.png | md5sum)" ] || fail "a copy draws another picture"

# words of the prompt, parts of a matrix
draw 0 --prompt "a red heart, red" --sheet "replace=red|dark, blue" --out words.png --json
grep -q '"prompt": "a dark, blue heart, dark, blue"' out || fail "not replaced: $(cat out)"
draw 0 --prompt "a heart|snow|night" --matrix --out matrix.png --json
for prompt in "a heart" "a heart, snow" "a heart, night" "a heart, snow, night"; do
    grep -qF "\"prompt\": \"$prompt\"}" out || grep -qF "\"prompt\": \"$prompt\"" out || fail "no \"$prompt\" in: $(cat out)"
done

# files of prompts, with options of their own in three ways
cat >prompts.txt <<'END'
# hearts
a red heart

a blue heart --seed 7 --n bad, ugly --s 3
--prompt "a \"green\" heart" --negative_prompt 'very bad' --cfg_scale 3
END
draw 0 --prompts prompts.txt --out file.png
[ "$(cat out)" = "$(printf '%s\n' file-1-0.png file-7.png file-3-0.png)" ] || fail "names: $(cat out)"
grep -aqF "Negative prompt: bad, ugly" file-7.png || fail "no negative in file-7.png"
grep -aqF "Steps: 3," file-7.png || fail "no steps in file-7.png"
grep -aqF 'a "green" heart' file-3-0.png || fail "no prompt in file-3-0.png"
grep -aqF "CFG scale: 3," file-3-0.png || fail "no scale in file-3-0.png"
echo "a red heart" | "$atelier" sample --model "$model" --steps 2 --prompts - --out piped.png >/dev/null 2>&1 || fail "no prompts from standard input"
draw 0 "${heart[@]}" --out alone.png
same piped.png alone.png

# what does not fit is said before the work
refused() { # MESSAGE ARGUMENTS...
    draw 2 "${@:2}"
    says "$1"
    grep -q "picture 1" err && fail "worked before it looked: $(cat err)"
}
refused "KEY=VALUE" "${heart[@]}" --sheet steps
refused "did you mean --steps" "${heart[@]}" --sheet step=1,2
refused "no setting of a picture" "${heart[@]}" --sheet out=a,b
refused "out of range" "${heart[@]}" --sheet steps=1,0
refused "a range is written FIRST..LAST or FIRST..LAST+STEP, as 1..5" "${heart[@]}" --sheet steps=1-5
refused "a value is empty" "${heart[@]}" --sheet steps=1,,2
refused "there is no LoRA" "${heart[@]}" --sheet lora=0.5,1
refused "does not hold \"blue\"" "${heart[@]}" --sheet replace=blue,red
refused "has no parts" "${heart[@]}" --matrix
refused "columns, rows and blocks" "${heart[@]}" --sheet seed=1,2 --sheet cfg=1,2 --sheet steps=1,2 --sheet clip-skip=0,1
refused "no checkpoints" "${heart[@]}" --sheet checkpoint=other
refused "nowhere" "${heart[@]}" --sheet checkpoint=nowhere
refused "at most" "${heart[@]}" --sheet seed=1..1000 --sheet cfg=1..1000
refused "is wider than" "${heart[@]}" --sheet seed=1..1024 --sheet width=64,128
refused "nothing.txt" --prompts nothing.txt
echo '--prompt "open' >open.txt
refused "open.txt:1: a quote is not closed" --prompts open.txt
: >empty.txt
refused "holds no prompt" --prompts empty.txt
refused "--prompt is missing" --sheet steps=1,2
refused "is for sheets" "${heart[@]}" --sheet-pictures cells
echo text >mine.png
refused "is left alone" "${heart[@]}" --sheet steps=1,2 --out mine.png
[ "$(cat mine.png)" = text ] || fail "somebody's file was replaced"

finish "sheets: everything as it should be"
