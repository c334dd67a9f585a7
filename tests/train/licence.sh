#!/bin/bash
# What a run makes carries the base's licence: a LoRA's metadata, a model's card, previews. Breaks if a result of a model
# under OpenRAIL-M says nothing of it, or names a licence where the base names none.
#
#     licence.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
cd "$work" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
cp -r "$here/tests/golden/models/sd1" base
mkdir pictures
cp "$here"/data/examples/{banana,bell}.jpg pictures
for name in banana bell; do echo "a $name" >pictures/$name.txt; done
cat >run.yaml <<'Y'
model: {base: base, dtype: f32}
dataset: {path: pictures}
train: {steps: 1, batch: 1, resolution: 32, threads: 1}
preview: {every: 1, prompts: [cat], steps: 1}
output: {dir: plain}
Y
run 0 train run.yaml
grep -aq 'modelspec.license' plain/*.safetensors && fail "a licence from nowhere"
printf -- '---\nlicense: creativeml-openrail-m\n---\n' >base/README.md
run 0 train run.yaml --set output.dir=licensed --set "output.formats=[kohya, peft]"
for name in lora lora.peft; do
    head -c 20000 licensed/$name.safetensors | grep -aq '"modelspec.license":"creativeml-openrail-m"' ||
        fail "$name.safetensors does not carry the licence"
done
grep -aq '"license":"creativeml-openrail-m"' licensed/samples/step-000001.png || fail "the preview does not say the licence"
echo "CreativeML Open RAIL-M" >base/LICENSE
mkdir base/feature_extractor
echo '{"size": 32}' >base/feature_extractor/preprocessor_config.json
run 0 train run.yaml --set output.dir=whole --set method.kind=full --set "output.formats=[single]"
grep -q '^license: creativeml-openrail-m$' whole/model/README.md || fail "the model's card does not name the licence"
cmp -s base/LICENSE whole/model/LICENSE || fail "the licence's text is left behind"
cmp -s base/feature_extractor/preprocessor_config.json whole/model/feature_extractor/preprocessor_config.json || fail "a part of the base is left behind"
run 0 model info whole/model
grep -q 'creativeml-openrail-m' out || fail "the trained model's licence is not read: \$(cat out)"
# The same model as one file: it says the licence too, and draws the same picture.
head -c 200000 whole/model.safetensors | grep -aq '"modelspec.license":"creativeml-openrail-m"' ||
    fail "model.safetensors does not carry the licence"
run 0 sample --model whole/model --prompt cat --steps 1 --save-latents folder.safetensors --out a.png
run 0 sample --model whole/model.safetensors --prompt cat --steps 1 --save-latents single.safetensors --out b.png
cmp -s folder.safetensors single.safetensors || fail "the single file draws another picture than the folder"
finish "results carry the licence"
