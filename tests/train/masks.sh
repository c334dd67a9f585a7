#!/bin/bash
# Masks as a user meets them: found beside the pictures or in their alpha channels, in a folder and in a dataset
# file; said in the summary; of effect on what is trained, and of none where they are white.
. "$(dirname "$0")/common" "$1"
says() { grep -q -- "$1" "$work/out" "$work/err" || fail "it does not say: $1"; }
same() { cmp -s "$work/$1/lora.safetensors" "$work/$2/lora.safetensors"; }
before() { grep -o '"validation_loss_before": *[-0-9.e]*' "$work/$1/log.jsonl"; }
losses() { grep -o '"loss": *[-0-9.e]*' "$work/$1/log.jsonl"; } # the file itself names its dataset

mkdir "$work/pictures"
cp "$here/tests/golden/pictures/png-rgb.png" "$work/pictures/a.png"
cp "$here/tests/golden/pictures/png-rgba.png" "$work/pictures/b.png"
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures, caption: {missing: a thing}, augment: {flip: true}}
method: {kind: lora, rank: 2}
train: {steps: 3, batch: 2, resolution: 32, threads: 1}
optimizer: {lr: 1.0e-3}
output: {dtype: f32}
YAML
train() { expect "$1" "$atelier" train "$work/run.yaml" --set output.dir="$work/$2" "${@:3}"; }

train 0 plain
train 2 refused --set loss.mask_floor=0.1
says "no picture has a mask"

# The half of a, left; the picture itself is grey enough to be one.
cp "$work/pictures/a.png" "$work/pictures/a.mask.png"
train 0 plan --plan --no-time
says "masks: 1 of 2 pictures has one"
train 0 masked
same plain masked && fail "a mask has no effect"
train 0 decoded --set train.cache_latents=false
same decoded masked || fail "latents from a cache are masked otherwise"
train 0 off --set dataset.mask=none
same plain off || fail "dataset.mask: none leaves an effect"
train 0 whole --set loss.mask_floor=1
same plain whole || fail "with a floor of 1 all counts"
expect 0 "$atelier" data build "$work/pictures" --out "$work/set.h5" --caption "a thing"
says "^masks  *1$"
train 0 file --set dataset.path="$work/set.h5"
[ "$(losses file)" = "$(losses masked)" ] || fail "a dataset file's masks are others than its folder's"

train 0 alpha --set dataset.mask=alpha
says "else the picture's alpha channel"
same alpha masked && fail "an alpha channel has no effect"

# Held-out pictures count as those that are trained do: by their masks, and as much as their dataset.
cp "$work/pictures/a.mask.png" "$work/pictures/b.mask.png"
held=(--set validation.share=0.5 --set validation.every=1)
train 0 held-masked "${held[@]}"
train 0 held-decoded "${held[@]}" --set train.cache_latents=false
train 0 held-whole "${held[@]}" --set loss.mask_floor=1
train 0 held-plain "${held[@]}" --set dataset.mask=none
[ "$(before held-masked)" = "$(before held-decoded)" ] || fail "latents from a cache are measured otherwise"
[ "$(before held-whole)" = "$(before held-plain)" ] || fail "with a floor of 1 all counts in validation"
[ "$(before held-masked)" != "$(before held-plain)" ] || fail "a mask has no effect on the validation loss"
rm "$work/pictures/b.mask.png"
cp -r "$work/pictures" "$work/others"
sed 's/^dataset: \(.*\)/dataset: [\1, {path: others, caption: {missing: x}, weight: 0}]/' "$work/run.yaml" > "$work/two.yaml"
expect 0 "$atelier" train "$work/two.yaml" --set output.dir="$work/two" "${held[@]}"
train 0 one "${held[@]}"
[ "$(before two)" = "$(before one)" ] || fail "a dataset without weight counts in validation"

# Going on with a run of which a mask has changed.
train 0 stopped --set optimizer.schedule=constant --set output.save_every=1
cp "$work/pictures/b.png" "$work/pictures/a.mask.png"
expect 2 "$atelier" train "$work/run.yaml" --set output.dir="$work/stopped" --set optimizer.schedule=constant --set train.steps=5 --resume auto
says "1 mask was changed"
rm "$work/pictures/a.mask.png"

# What cannot be a mask.
cp "$here/data/examples/banana.jpg" "$work/pictures/a.mask.jpg"
train 1 bad
says "the mask of"
