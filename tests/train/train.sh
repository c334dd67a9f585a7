#!/bin/bash
# `atelier train` as a user meets it: --plan, signals, requests that are wrong, a whole model trained and drawn with.
. "$(dirname "$0")/common" "$1"

pictures "$work/pictures" banana bell bicycle
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures, repeats: 4}
method: {kind: full, text_encoder: true}
train: {steps: 3, batch: 2, resolution: 32, threads: 1, ema: 0.9}
optimizer: {lr: 1.0e-3}
output: {dir: run}
YAML
train() { expect "$1" "$atelier" train "$work/run.yaml" "${@:2}"; }

# --plan says what the run comes to and writes nothing.
train 0 --plan --json
for part in '"peak_bytes"' '"weights"' '"activations"' '"gradients"' '"optimizer"' '"workspace"' '"other"' \
            '"steps": 3' '"epoch_pictures": 12' '"epochs": 0.5' '"trained_parameters"' '"device": "cpu'; do
    grep -q "$part" "$work/out" || fail "--plan --json lacks $part"
done
[ ! -e "$work/run" ] || fail "--plan made the run's folder"
train 0 --plan
grep -q "3 × 4 repeats\|3, × 4 repeats" "$work/out" || fail "--plan does not say pictures × repeats"

# Requests that are wrong.
train 2 --json
train 2 --trace :3
train 2 --set model.base=builtin:tiny --set train.resolution=40
grep -q "nearest are" "$work/err" || fail "the nearest good sizes are not named"
train 2 --set model.base=nowhere
train 2 --set dataset.path=nowhere
train 2 --resume nowhere
[ ! -e "$work/run" ] || fail "a request that was wrong left a folder"
expect 2 "$atelier" train
expect 0 "$atelier" train --help
grep -q "Example\|atelier train" "$work/out" || fail "no example in the help"

# SIGHUP does not end a run, SIGTERM saves, with status 130 and how to go on; the end is that of an uninterrupted run.
train 0 --set output.dir=whole --set train.steps=20 --set optimizer.schedule=constant
standing "$work/run/log.jsonl" 4 "$atelier" train "$work/run.yaml" --set train.steps=20 --set optimizer.schedule=constant
kill -HUP $pid
kill -TERM $pid
kill -CONT $pid
status=0; wait $pid || status=$?
[ $status = 130 ] || fail "SIGTERM: status $status, not 130"
grep -q "Go on with: atelier train .*--resume auto" "$work/err" || fail "it does not say how to go on"
page() { # NAME TEXT: the run's report is whole and says so
    [ "$(tail -n 1 "$work/$1/report.html")" = "</html>" ] || fail "$1: no whole report"
    grep -q "$2" "$work/$1/report.html" || fail "$1: the report does not say $2"
}
page run "The run is not done"
page run "<dd>$(wc -l < "$work/run/log.jsonl") of 20, "
train 0 --set train.steps=20 --set optimizer.schedule=constant --resume auto
for part in unet/diffusion_pytorch_model text_encoder/model; do
    cmp "$work/whole/model/$part.safetensors" "$work/run/model/$part.safetensors" || fail "$part differs"
done
grep -q '"done":true' "$work/run/log.jsonl" || fail "the log has no last line"
for name in whole run; do
    page $name "<dd>20 of 20, "
    page $name "atelier sample --model $work/$name/model "
done

# The model is one like any other: it can be drawn with, and trained again.
expect 0 "$atelier" sample --model "$work/run/model" --prompt "a bell" --steps 2 --out "$work/bell.png"
train 0 --set model.base=run/model --set output.dir=again --set train.steps=1

# A caption that the text encoder does not see whole is named.
for ((i = 0; i < 80; i++)); do printf 'bell '; done > "$work/pictures/bell.txt"
train 0 --set output.dir=long --set train.steps=1
grep -q "the caption of bell.jpg has 80 tokens; the text encoder sees the first 75" "$work/err" || fail "a cut caption is not named"
[ "$(grep -c "the caption of" "$work/err")" = 1 ] || fail "captions that are not cut are named"

# A checkpoint's weights are a LoRA file like the exported one, alpha included: the same latents, not those without it.
train 0 --set method.kind=lora --set method.rank=4 --set method.alpha=10 --set optimizer.lr=0.02 --set train.ema=0 \
    --set output.dtype=f32 --set output.dir=lora
draw() { # NAME OPTION...
    expect 0 "$atelier" sample --model "$here/tests/golden/models/sd1" --dtype f32 --prompt "a bell" --steps 2 \
        --out "$work/$1.png" --save-latents "$work/$1" "${@:2}"
}
draw none
draw exported --lora "$work/lora/lora.safetensors"
draw kept --lora "$work/lora/checkpoints/step-000003/weights.safetensors"
cmp "$work/exported" "$work/kept" || fail "a checkpoint's weights draw otherwise than the exported file of its step"
! cmp -s "$work/exported" "$work/none" || fail "the LoRA changes nothing"

# The files that were made stand on standard output; the command that is told draws the last preview.
train 0 --set method.kind=lora --set output.dir=shown --set output.dtype=f32 --set "preview.prompts=[a \"red\" bell]" --set preview.every=3 \
    --set preview.steps=3 --set preview.sampler=euler --set preview.schedule=karras --set preview.cfg=3 --set preview.seed=11 --set preview.width=48 \
    --set preview.height=32 --set "preview.negative=it's dull" --set method.clip_skip=1 --set output.formats=[kohya,peft] \
    --set train.ema=0 --set method.text_encoder=false
[ "$(cat "$work/out")" = "$(printf "$work/shown/%s\n" lora.safetensors lora.peft.safetensors samples/before-after.png log.jsonl report.html)" ] ||
    fail "not the files that were made: $(cat "$work/out")"
command=$(sed -n 's/.*draw with it: atelier //p' "$work/err")
eval "expect 0 '$atelier' $command --threads 1 --out '$work/drawn.png'"
pixels() { tail -c "+$(grep -abo IDAT "$1" | head -n 1 | cut -d: -f1)" "$1"; }
cmp <(pixels "$work/drawn.png") <(pixels "$work/shown/samples/step-000003.png") || fail "another picture: $command"

# Latents and texts that lie beside the dataset are used where they fit, by every run, and what is missing is added.
expect 0 "$atelier" data build "$work/pictures" --out "$work/cached.h5" --cache latents,text --resolution 32 --dtype f32 \
    --model "$here/tests/golden/models/sd1"
grep -q "^buckets at 32$" "$work/out" || fail "other buckets than those that were encoded are told: $(cat "$work/out")"
expect 0 "$atelier" data build "$work/pictures" --out "$work/rebuilt.h5" --cache latents,text --resolution 32 --dtype f32 \
    --model "$here/tests/golden/models/sd1"
cp "$work/rebuilt.cache" "$work/kept.cache"
rm "$work/rebuilt.h5"
expect 0 "$atelier" data build "$work/pictures" --out "$work/rebuilt.h5" --cache latents,text --resolution 32 --dtype f32 \
    --model "$here/tests/golden/models/sd1"
grep -q "rebuilt.h5: latents of \([0-9]*\) of \1 pictures used again" "$work/err" || fail "built anew, all was encoded anew"
cmp "$work/rebuilt.cache" "$work/kept.cache" || fail "building anew changed the cache"
# another VAE's latents are others
expect 0 "$atelier" data build "$work/pictures" --out "$work/other-vae.h5" --cache latents --resolution 32 --dtype f32 \
    --model "$here/tests/golden/models/sd1" --vae "$here/tests/golden/models/sd2"
cp "$work/other-vae.cache" "$work/rebuilt.cache"
rm "$work/rebuilt.h5"
expect 0 "$atelier" data build "$work/pictures" --out "$work/rebuilt.h5" --cache latents --resolution 32 --dtype f32 \
    --model "$here/tests/golden/models/sd1"
grep -q "used again" "$work/err" && fail "latents of another VAE were used"
cached() { train 0 --set dataset.path=cached.h5 --set method.text_encoder=false --set train.steps=1 --set output.dir="$@"; }
before=$(sha256sum "$work/cached.cache")
cached fits
grep -q "cached.h5: latents of \([0-9]*\) of \1 pictures used again" "$work/err" || fail "cached latents are not used"
grep -q "cached.h5: text of \([0-9]*\) of \1 captions used again" "$work/err" || fail "cached texts are not used"
[ "$before" = "$(sha256sum "$work/cached.cache")" ] || fail "something was encoded again"
cached larger --set train.resolution=64
grep -q "latents of .* used again" "$work/err" && fail "latents of another size were used"
grep -q "cached.h5: text of \([0-9]*\) of \1 captions used again" "$work/err" || fail "cached texts depend on the resolution"
cached larger-again --set train.resolution=64
grep -q "cached.h5: latents of \([0-9]*\) of \1 pictures used again" "$work/err" || fail "another run's latents are not used"
true
