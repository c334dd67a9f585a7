#!/bin/bash
# DreamBooth as a user meets it: class pictures drawn when they are missing and used again by later runs, whole models
# and LoRAs trained beside them, stopped and gone on with to the same bytes, requests that are wrong.
. "$(dirname "$0")/common" "$1"
says() { grep -q -- "$1" "$work/out" "$work/err" || fail "it does not say: $1"; }

mkdir "$work/pictures"
for name in banana bell bicycle; do
    cp "$here/data/examples/$name.jpg" "$work/pictures"
    echo "a sks $name" > "$work/pictures/$name.txt"
done
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures, repeats: 2}
prior: {path: class, prompt: a dog, pictures: 2, steps: 2, seed: 7}
method: {kind: full, text_encoder: true}
train: {steps: 6, batch: 1, accumulate: 2, resolution: 32, threads: 1}
optimizer: {lr: 1.0e-3}
loss: {snr_gamma: 5.0}
output: {dir: whole, save_every: 2}
YAML
train() { expect "$1" "$atelier" train "$work/run.yaml" "${@:2}"; }

# --plan counts the class pictures that are missing, and draws nothing.
train 0 --plan --no-time
says "0 of 2 pictures of \"a dog\"; 2 are missing"
says "6 pictures an epoch ÷ 2 a step (batch 1 × accumulate 2) = 3 steps an epoch"
says "2 class pictures a step"
train 0 --plan --no-time --json
says '"missing": 2'
with=$(sed -n 's/.*"peak_bytes": \([0-9]*\).*/\1/p' "$work/out")
train 0 --plan --no-time --json --set prior=
without=$(sed -n 's/.*"peak_bytes": \([0-9]*\).*/\1/p' "$work/out")
[ "$with" -gt "$without" ] || fail "the plan does not count the class pictures in the batch: $with, $without"
[ ! -e "$work/class" ] || fail "--plan made the folder of class pictures"

# Requests that are wrong leave nothing.
train 2 --set prior.path=
train 2 --set prior.prompt=
train 2 --set prior.path=pictures
says "in one another"
train 2 --set prior.path=pictures/class
train 2 --set prior.resolution=1001
train 2 --set prior.path=missing.h5
train 2 --set prior.steps=0
train 2 --set model.init=random
[ ! -e "$work/whole" ] && [ ! -e "$work/class" ] || fail "a request that was wrong left a folder"

# The first run draws them as `atelier sample` does.
train 0
says "2 of 2 class pictures drawn"
expect 0 "$atelier" sample --model "$here/tests/golden/models/sd1" --prompt "a dog" --steps 2 --seed 7 --batch 2 \
    --threads 1 --out "$work/sampled.png"
for i in 0 1; do
    cmp "$work/class/class-0000$i.png" "$work/sampled-$((7 + i)).png" || fail "class picture $i is not sample's"
    [ "$(cat "$work/class/class-0000$i.txt")" = "a dog" ] || fail "class picture $i has no caption"
done

# Another one uses them again, killed in between and gone on with, the folder of class pictures lost meanwhile.
cp -r "$work/class" "$work/kept"
for at in 4 6 6; do # before the first checkpoint, after it, and gone on from it
    expect 137 disturbed kill "$work/killed/log.jsonl" $at "$atelier" train "$work/run.yaml" --set output.dir=killed --resume auto
    ! grep -q "class pictures drawn" "$work/err" || fail "class pictures were drawn again"
    diff -r "$work/class" "$work/kept" || fail "class pictures were changed"
done
mv "$work/class" "$work/away"
train 0 --set output.dir=killed --resume auto
mv "$work/away" "$work/class"
for part in unet/diffusion_pytorch_model text_encoder/model; do
    cmp "$work/whole/model/$part.safetensors" "$work/killed/model/$part.safetensors" || fail "$part differs"
done
times='s/"\(seconds\|peak_bytes\|memory_bytes\|allocated_bytes\)":[0-9.e-]*//g'
cmp <(sed "$times" "$work/whole/log.jsonl") <(sed "$times" "$work/killed/log.jsonl") || fail "the logs differ"

# Without caches the same bytes; the class pictures matter; a pixel of one of them does, too.
train 0 --set output.dir=uncached --set train.cache_latents=false --set train.loader_threads=3
cmp "$work/whole/model/unet/diffusion_pytorch_model.safetensors" \
    "$work/uncached/model/unet/diffusion_pytorch_model.safetensors" || fail "caches change the result"
train 0 --set output.dir=alone --set prior=
! cmp -s "$work/whole/model/unet/diffusion_pytorch_model.safetensors" \
    "$work/alone/model/unet/diffusion_pytorch_model.safetensors" || fail "the class pictures change nothing"

# A picture more is drawn; a folder of another class is refused; a dataset file is taken as it is.
train 0 --set output.dir=more --set prior.pictures=3 --set train.steps=1
says "1 of 1 class picture drawn"
cmp "$work/class/class-00001.png" "$work/kept/class-00001.png" || fail "a picture that was there was drawn again"
train 2 --set output.dir=cat --set "prior.prompt=a cat"
says "was drawn with prompt"
[ ! -e "$work/cat" ] || fail "a folder of another class left a run"
# A trained model is another one, though its folder is called as the first one's; the same under another name is not.
mkdir "$work/first"; cp -r "$here/tests/golden/models/sd1" "$work/first/model"; chmod -R u+w "$work/first"
cp -r "$work/first" "$work/second"; cp "$work/whole/model/unet/"*.safetensors "$work/second/model/unet"
train 0 --set output.dir=named --set train.steps=1 --set model.base=first/model --set prior.path=named-class
train 2 --set output.dir=named2 --set train.steps=1 --set model.base=second/model --set prior.path=named-class
says "class-00000.png: was drawn with weights"
train 0 --set output.dir=named3 --set train.steps=1 --set prior.path=named-class
! grep -q "class pictures drawn" "$work/err" || fail "the same model under another name draws again"
expect 0 "$atelier" data build "$work/class" --out "$work/class.h5"
train 2 --set output.dir=file --set prior.path=class.h5 --set prior.pictures=4
says "has 3 pictures, and prior.pictures is 4"

# LoRA, with a trace: each step has as many class pictures, and the file says so.
train 0 --set output.dir=lora --set prior.path=class.h5 --set method.kind=lora --set "prior.prompt=a cat" \
    --set prior.weight=0.5 --trace "$work/trace:1"
says "2 of the class pictures have a caption of their own"
says "loss counts 0.5 times"
grep -q '"ss_num_reg_images":"2"' "$work/lora/lora.safetensors" || fail "the LoRA says nothing of its class pictures"
grep -q '"timesteps":{"dtype":"F32","shape":\[4\]' "$work/trace/step-000001.safetensors" || fail "no whole batch traced"

# A loss that is none names the class pictures of the batch too.
train 1 --set output.dir=none --set optimizer.lr=10 --set optimizer.beta2=0 --set train.max_grad_norm=0 \
    --set optimizer.weight_decay=1 --set train.steps=20
says "The pictures: [a-z]*.jpg, class-0000[0-2].png\."

# Stopped while class pictures are drawn: those that are done stay, and the next start draws the others.
# As many as no run draws before this shell gets its turn, however busy the machine is.
many=90000
"$atelier" train "$work/run.yaml" --set output.dir=stopped --set prior.path=many --set prior.pictures=$many \
    > "$work/out" 2> "$work/err" & pid=$!
comes $pid test -e "$work/many/class-00001.png" || fail "no class pictures are drawn"
kill -INT $pid
status=0; wait $pid || status=$?
[ $status = 130 ] || fail "SIGINT while class pictures are drawn: status $status"
says "class pictures drawn, and kept for later runs"
done=$(ls "$work/many" | grep -c png)
[ "$done" -ge 2 ] && [ "$done" -lt $many ] || fail "$done class pictures after the interruption"
train 0 --plan --no-time --set output.dir=stopped --set prior.path=many --set prior.pictures=$many
says "$done of $many pictures"

# Two runs that fill one folder share the work: each picture is drawn by one of them, and both train.
together() { # NAME
    "$atelier" train "$work/run.yaml" --set output.dir="$1" --set prior.path=shared --set prior.pictures=30 --set train.steps=1 \
        > "$work/$1.out" 2> "$work/$1.err"
}
together one-of-two & pid=$!
together two-of-two || fail "the second run of two: $(cat "$work/two-of-two.err")"
wait $pid || fail "the first run of two: $(cat "$work/one-of-two.err")"
cat "$work/one-of-two.err" "$work/two-of-two.err" > "$work/err"
drawn=$(sed -n 's/.* \([0-9]*\) of [0-9]* class pictures* drawn.*/\1/p' "$work/err" | paste -sd+)
[ "$((drawn))" = 30 ] || fail "30 pictures are drawn once each, not $drawn"
[ "$(find "$work/shared" -name '*.png' | wc -l)" = 30 ] || fail "not all pictures are there"
[ -z "$(find "$work/shared" -name '.atelier*')" ] || fail "something is left in the folder"
