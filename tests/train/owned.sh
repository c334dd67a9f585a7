#!/bin/bash
# Only what a run made is replaced or removed: anything else that has a name the run wants is refused before the first step,
# named, and left as it is; what somebody put into a run's folders stays. The same for what `sample` writes. Breaks if a
# name is enough to be taken for the run's own.
. "$(dirname "$0")/common" "$1"
# HDF5 forgets some of its own memory when a file turns out to be none of its kind.
echo leak:libhdf5 > "$work/leaks"
export LSAN_OPTIONS=suppressions=$work/leaks:print_suppressions=0

pictures "$work/pictures" banana bell
pictures "$work/other" carrot
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures}
method: {kind: lora, rank: 2}
train: {steps: 4, resolution: 32, threads: 1}
optimizer: {lr: 1.0e-3, schedule: constant}
preview: {every: 2, prompts: [a bell], steps: 1}
output: {dir: run, save_every: 1, keep: 1, formats: [kohya, peft]}
YAML
train() { expect "$1" "$atelier" train "$work/run.yaml" "${@:2}"; }
listing() { (cd "$work/run" && find . -type f -exec sha256sum {} + | LC_ALL=C sort); }

# Somebody's file under each name that the run would give to its own.
for name in lora.safetensors lora.peft.safetensors config.yaml report.html pictures.h5 \
            samples/step-000002.png samples/step-000002.txt samples/before-after.png checkpoints/step-000003 checkpoints/step-000003/notes.txt; do
    for resume in "" "--resume auto"; do
        rm -rf "$work/run"
        mkdir -p "$(dirname "$work/run/$name")"
        echo mine > "$work/run/$name"
        before=$(listing)
        # shellcheck disable=SC2086
        train 2 $resume
        grep -q "${name%/notes.txt}: is there, and was not made\|${name%/notes.txt}: is there, has a checkpoint's name" "$work/err" ||
            fail "$name is not named"
        [ "$before" = "$(listing)" ] || fail "$name: something is otherwise in the folder"
    done
done
rm -rf "$work/run"
expect 0 "$atelier" data build "$work/other" --out "$work/run/pictures.h5"
before=$(listing)
train 2
[ "$before" = "$(listing)" ] || fail "another dataset is replaced"
rm -rf "$work/run"; mkdir -p "$work/run/model"; echo mine > "$work/run/model/notes.txt"
sed -e 's/^method:.*/method: {kind: full}/' -e 's/, formats: \[kohya, peft\]//' "$work/run.yaml" > "$work/full.yaml"
expect 2 "$atelier" train "$work/full.yaml"
grep -q "model: is there, and was not made" "$work/err" || fail "the folder called model is not named"
[ "$(cat "$work/run/model/notes.txt")" = mine ] || fail "a folder called model is replaced"

# What is beside is left alone, in the run's folder and in its checkpoints.
rm -rf "$work/run"; mkdir -p "$work/run/samples" "$work/run/checkpoints"
echo mine > "$work/run/notes.txt"; echo mine > "$work/run/samples/notes.png"; echo mine > "$work/run/checkpoints/notes"
train 0 --set train.steps=2
# unfinished N: a run of N steps is not finished, as if it had been killed before its end
unfinished() { sed -i '$d' "$work/run/log.jsonl"; }
unfinished
echo mine > "$work/run/checkpoints/step-000002/notes.txt"
rm "$work/run/lora.safetensors" "$work/run/lora.peft.safetensors"
train 0 --resume auto --set train.steps=2 # its own files are replaced without a word
[ -s "$work/run/lora.safetensors" ] || fail "the result was not made again"
unfinished
train 0 --resume auto --set train.steps=4
for file in notes.txt samples/notes.png checkpoints/notes checkpoints/step-000002/notes.txt; do
    [ "$(cat "$work/run/$file")" = mine ] || fail "$file is gone"
done
[ "$(ls "$work/run/checkpoints/step-000002")" = notes.txt ] || fail "an old checkpoint is not removed"
[ "$(cd "$work/run/checkpoints" && echo step-*)" = "step-000002 step-000004" ] || fail "other checkpoints"

# Somebody's file in the place of one that the run would have made later: refused on going on, whatever had been done.
sed -i '$d' "$work/run/log.jsonl"
sed -i '/^lora.safetensors$/d' "$work/run/.made-by-atelier"
train 2 --resume auto
grep -q "lora.safetensors: is there, and was not made" "$work/err" || fail "lora.safetensors is not named"

# The other folder that is offered can be pasted.
mv "$work/run" "$work/my run"
train 2 --set "output.dir=my run"
grep -qF -- "--set 'output.dir=$work/my run-2'" "$work/err" || fail "a folder with a space is not quoted"

# A run that is refused when its dataset has been built takes it away again.
rm -rf "$work/run"
train 2 --set validation.share=0.9 --set output.dir=late
grep -q "leaves none" "$work/err" || fail "another refusal"
[ ! -e "$work/late" ] || fail "a refused run left $(find "$work/late")"

# sample: latents and traces replace their own kind, and nothing else.
sample() { expect "$1" "$atelier" sample --model "$here/tests/golden/models/sd1" --dtype f32 --prompt x --steps 1 --threads 1 "${@:2}"; }
train 0 --set output.dir=lora
cp "$work/lora/lora.safetensors" "$work/z.safetensors"
cp -r "$here/tests/golden/models/sd1/unet" "$work/unet"
chmod -R u+w "$work/unet"
: > "$work/empty.safetensors"
for file in z.safetensors unet/diffusion_pytorch_model.safetensors empty.safetensors run.yaml; do
    cp "$work/$file" "$work/kept"
    sample 2 --lora "$work/z.safetensors" --out "$work/a.png" --save-latents "$work/$file"
    grep -q "$file: is there, and is no file of latents" "$work/err" || fail "$file is not named"
    cmp "$work/kept" "$work/$file" || fail "$file is replaced"
done
[ ! -e "$work/a.png" ] || fail "a refused request made a picture"
sample 2 --out "$work/a.png" --save-latents "$work/a.png"
[ ! -e "$work/a.png" ] || fail "latents under a picture's name"
for i in 1 2; do
    sample 0 --out "$work/a.png" --save-latents "$work/latents.safetensors" --trace "$work/trace"
done
sample 0 --out "$work/b.png" --seed 1,2 --trace "$work/traces"
mkdir "$work/mine" "$work/mine/seed-2"
cp "$work/z.safetensors" "$work/mine/step-000000.safetensors"
cp "$work/z.safetensors" "$work/mine/seed-2/step-000001.safetensors"
sample 2 --out "$work/a.png" --trace "$work/mine"
grep -q "mine/step-000000.safetensors: is there, and is no file of trace" "$work/err" || fail "the file in the way is not named"
sample 2 --out "$work/b.png" --seed 1,2 --trace "$work/mine"
train 2 --set output.dir=traced --trace "$work/mine"
grep -q "mine/step-000000.safetensors: is there, and is no file of trace" "$work/err" || fail "the file in the way is not named"
cmp "$work/z.safetensors" "$work/mine/step-000000.safetensors" && cmp "$work/z.safetensors" "$work/mine/seed-2/step-000001.safetensors" ||
    fail "a trace replaces somebody's file"
for i in 1 2; do
    train 0 --set output.dir=traced$i --set train.steps=1 --trace "$work/steps"
done

# sample --out replaces pictures of its own, several as one; anything else is refused before a step is made.
: > "$work/new.png"
for i in 1 2; do
    sample 0 --out "$work/new.png"
    sample 0 --out "$work/some.png" --seed 1,2
done
cp "$here/data/examples/banana.jpg" "$work/photo.png"
cp "$work/photo.png" "$work/some-2.png"
for file in photo.png z.png; do
    [ $file != z.png ] || cp "$work/z.safetensors" "$work/z.png"
    cp "$work/$file" "$work/kept"
    sample 2 --out "$work/$file"
    grep -q "$file: is there, and is no picture that was drawn here" "$work/err" || fail "$file is not named"
    cmp "$work/kept" "$work/$file" || fail "$file is replaced"
done
rm "$work/some-1.png"
sample 2 --out "$work/some.png" --seed 1,2
[ ! -e "$work/some-1.png" ] || fail "a refused request made a picture"

# data build replaces datasets that were built, not those of a run, nor another program's file.
for set in pictures other; do expect 0 "$atelier" data build "$work/$set" --out "$work/set.h5"; done
rm -rf "$work/run"
train 0 --set train.steps=1
cp "$work/pictures.cache" "$work/cache.h5"
cp "$here/data/builtin/emoji.h5" "$work/theirs.h5"
chmod u+w "$work/theirs.h5"
sed -i 's/atelier 0/atelies 0/' "$work/theirs.h5" # an attribute's check sum is wrong then, too
for file in run/pictures.h5 cache.h5 theirs.h5; do
    cp "$work/$file" "$work/kept"
    expect 2 "$atelier" data build "$work/other" --out "$work/$file"
    cmp "$work/kept" "$work/$file" || fail "$file is replaced"
done

# Class pictures: a caption of somebody's stands where one would be written.
mkdir "$work/class"
echo mine > "$work/class/class-00001.txt"
train 2 --set output.dir=classes --set prior.path=class --set prior.prompt=dog --set prior.pictures=2 --set prior.steps=1
grep -q "class-00001.txt: is there without its picture" "$work/err" || fail "the caption is not named"
[ "$(ls "$work/class")" = class-00001.txt ] && [ "$(cat "$work/class/class-00001.txt")" = mine ] || fail "somebody's caption is replaced"
echo dog > "$work/class/class-00001.txt" # of a run that was killed
train 0 --set output.dir=classes --set prior.path=class --set prior.prompt=dog --set prior.pictures=2 --set prior.steps=1 --set train.steps=1

# What a run reads is not where its result goes.
rm -rf "$work/run"
expect 0 "$atelier" train "$work/full.yaml" --set train.steps=1
rm -r "$work/run/log.jsonl" "$work/run/checkpoints"
expect 2 "$atelier" train "$work/full.yaml" --set train.steps=1 --set model.base=run/model
grep -q "run/model: is what this run reads, and where its result would go" "$work/err" || fail "the model is not named"

# A preview says enough to draw it again, and which of its pictures is which.
train 0 --set output.dir=shown --set train.steps=2 --set "preview.prompts=[a bell, \"a, b\"]" --set preview.seed=5 --set method.clip_skip=1
[ "$(cat "$work/shown/samples/step-000002.txt")" = "step 2, from left to right:
1. a bell (seed 5)
2. a, b (seed 6)" ] || fail "the legend: $(cat "$work/shown/samples/step-000002.txt")"
for text in '"step":2,"averaged":false,"pictures":[{"version":' '"model":"sd1","weights":"' '"prompt":"a, b"' '"width":32,"height":32,"clip_skip":1,"dtype":"f32"' \
    "Seed: 6, Size: 32x32, Model: sd1, Clip skip: 2"; do
    grep -qaF "$text" "$work/shown/samples/step-000002.png" || fail "the preview does not hold $text"
done
sample 0 --out "$work/same.png" --seed 5 --prompt "a bell" --clip-skip 1 --lora "$work/shown/checkpoints/step-000002/weights.safetensors" --json
[ "$(grep -ao '"weights":"[0-9a-f]*"' "$work/same.png")" = "$(grep -ao '"weights":"[0-9a-f]*"' "$work/shown/samples/step-000002.png" | head -1)" ] ||
    fail "the same model is told as another"
sample 2 --out "$work/shown/samples/step-000002.png"

# A line in a picture's text is a field, whatever a LoRA is called.
cp "$work/shown/lora.safetensors" "$work"/$'two\nlines.safetensors'
sample 0 --out "$work/lines.png" --lora "$work"/$'two\nlines.safetensors'
grep -qa '<lora:two lines:1>' "$work/lines.png" || fail "a LoRA's name breaks the line"
