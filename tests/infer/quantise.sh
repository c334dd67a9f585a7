#!/bin/bash
# `atelier model quantize`: a model with weights in 8 bits is used as any model. Breaks if what it draws is not what
# --quantise int8 draws, if it does not come back from the other layout, or if a LoRA cannot be trained over it.
#
#     quantise.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
cd "$work" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 # why: sample.sh

# draws LATENTS ARGUMENTS...
draws() {
    run 0 sample --prompt "a red heart" --steps 2 --seed 5 --save-latents "$1" "${@:2}"
}

same() {
    cmp -s "$1" "$2" || fail "$1 and $2 differ"
}

for model in sd1 sd2; do
    whole=$here/tests/golden/models/$model
    draws whole.$model --model "$whole"
    draws wanted.$model --model "$whole" --quantise int8
    cmp -s whole.$model wanted.$model && fail "$model: nothing was rounded"
    run 0 model quantize "$whole" $model
    says "in 8 bits"
    draws folder.$model --model $model
    same wanted.$model folder.$model
    run 0 model info $model
    grep -q "i8" out || fail "info of $model does not say i8: $(cat out)"
done
numbers() { "$atelier" model info "$1" 2>/dev/null | grep '^parameters'; }
[ "$(numbers sd1)" = "$(numbers "$here/tests/golden/models/sd1")" ] || fail "scales were counted as parameters"

# the other layout, and back; what is in 8 bits stays so
run 0 model quantize "$here/tests/golden/models/sd1" one.safetensors --dtype f16
draws one --model one.safetensors
run 0 model convert one.safetensors again --dtype f16
draws latents --model again
same one latents
run 0 model convert sd1 single.safetensors
draws single --model single.safetensors
same wanted.sd1 single
run 2 model quantize sd1 one.safetensors # is there

# a LoRA over it; and all of its weights, which are decoded for that
cat >run.yaml <<EOF
model: {base: tiny}
dataset: {path: $here/data/examples}
train: {steps: 1, batch: 1, resolution: 32}
EOF
run 0 model quantize builtin:tiny tiny
run 0 train run.yaml --set method.kind=lora --set output.dir=lora
[ -n "$(find lora -name '*.safetensors')" ] || fail "no LoRA was written"
run 0 train run.yaml --set method.kind=full --set output.dir=full
run 0 sample --model full/model --prompt "a red circle" --steps 1
finish "models in 8 bits are models"
