#!/bin/bash
# SDXL from the command line: folders and single files, sizes, no negative prompt, a second prompt, a picture made again.
#
#     sdxl.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
model=$here/tests/golden/models/sdxl
cd "$work" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0

draw() { # NAME OPTION...: the picture's latents in NAME.safetensors
    run 0 sample --threads 1 --prompt "a cat face" --seed 7 --steps 4 "${@:2}" --out "$1.png" --save-latents "$1.safetensors"
}
same() {
    cmp -s "$1.safetensors" "$2.safetensors" || fail "$1 and $2 have other latents"
}
differ() {
    ! cmp -s "$1.safetensors" "$2.safetensors" || fail "$1 and $2 have the same latents"
}

prints() { # TEXT: it stands in what the last command wrote to standard output
    grep -qF -- "$1" "$work/out" || fail "\"$1\" is not in: $(cat "$work/out")"
}

run 0 model info "$model"
prints "Stable Diffusion XL's architecture in another size"
prints "text encoder 2"
prints "projection  20"

# a folder, a single file, and a folder again
run 0 model convert "$model" single.safetensors
run 0 model info single.safetensors
prints "single file"
prints "Stable Diffusion XL"
run 0 model convert single.safetensors folder
for part in text_encoder text_encoder_2 unet vae; do
    [[ -s folder/$part/config.json ]] || fail "the folder lacks $part"
done
[[ -s folder/tokenizer/vocab.json && -s folder/tokenizer_2/vocab.json ]] || fail "the folder lacks a tokenizer"
run 0 model convert folder again.safetensors
cmp -s single.safetensors again.safetensors || fail "the single file does not come back bit for bit"
draw one --model "$model"
draw two --model single.safetensors
draw three --model folder
same one two
same one three

# no negative prompt is zeros, but of a model that says otherwise, and for the programs that encode an empty one
draw empty --model "$model" --negative ""
differ one empty
draw comfy_none --model "$model" --compat comfy
draw comfy_empty --model "$model" --compat comfy --negative ""
same comfy_none comfy_empty
draw a1111_none --model "$model" --compat a1111
draw a1111_empty --model "$model" --compat a1111 --negative ""
same a1111_none a1111_empty
cp -r "$model" says_otherwise
sed -i 's/"force_zeros_for_empty_prompt": true/"force_zeros_for_empty_prompt": false/' says_otherwise/model_index.json
draw otherwise --model says_otherwise
same otherwise empty
run 0 model convert says_otherwise otherwise.model.safetensors
draw otherwise_single --model otherwise.model.safetensors
same otherwise_single empty

# sizes
for sizes in "--original-size 300x200" "--target-size 300x200" "--crop-top 100" "--crop-left 100" \
    "--negative-original-size 9x9" "--negative-target-size 9x9"; do
    draw told --model "$model" $sizes
    differ one told
done
draw told --model "$model" --original-size 32x32 --target-size 32x32
same one told
draw wide --model "$model" --width 48
draw wide_told --model "$model" --width 48 --original-size 48x32 --target-size 48x32
same wide wide_told
run 2 sample --model "$model" --prompt "a cat" --original-size 300
says "--original-size 300: is no size as 1024x768, width first"
run 2 sample --model "$model" --prompt "a cat" --target-size 0x9
says "is no size"
run 2 sample --model "$here/tests/golden/models/sd1" --prompt "a cat" --crop-top 9 --out none.png
says "told to SDXL models alone"

# a picture says all of it
draw said --model "$model" --original-size 300x200 --crop-left 5 --clip-skip 1
run 0 sample --threads 1 --again said.png --model "$model" --out again.png
says "the same picture as said.png, in every pixel"
run 0 sample --threads 1 --again one.png --model "$model" --out again.png
says "the same picture as one.png, in every pixel"
run 0 sample --threads 1 --again empty.png --model "$model" --out again.png
says "the same picture as empty.png, in every pixel"

# a second prompt, for the second text encoder alone
draw second --model "$model" --prompt-2 "a red heart"
differ one second
draw second_same --model "$model" --prompt-2 "a cat face"
same one second_same
draw negative_2 --model "$model" --negative "" --negative-prompt-2 "grey"
differ empty negative_2
run 0 sample --threads 1 --again second.png --model "$model" --out again.png
says "the same picture as second.png, in every pixel"
run 0 sample --threads 1 --again negative_2.png --model "$model" --out again.png
says "the same picture as negative_2.png, in every pixel"
echo "a cat face --prompt_2 a red heart --d 7" >prompts.txt
run 0 sample --threads 1 --model "$model" --prompts prompts.txt --steps 4 --json --out listed.png
prints '"prompt_2": "a red heart"'
run 0 sample --threads 1 --again listed.png --model "$model" --save-latents listed.safetensors --out again.png
same second listed
run 0 sample --threads 1 --model "$model" --prompt "a cat" --prompt-2 "a red heart" --sheet "replace=heart,fish" --steps 1 --out sheet.png
run 2 sample --model "$model" --prompt "a cat" --negative-prompt-2 "grey" --out none.png
says "a second negative prompt does nothing without a negative prompt"
run 2 sample --model "$here/tests/golden/models/sd1" --prompt "a cat" --prompt-2 "a dog" --out none.png
says "which SDXL models alone have"
printf 'grey\n' >forbidden
run 2 sample --model "$model" --prompt "a cat" --prompt-2 "a grey dog" --prompt-filter forbidden --out none.png

# previews have it too, and say how to draw the first again
cat >run.yaml <<EOF
model: {base: $model}
dataset: {path: $here/data/examples}
train: {steps: 1, batch: 1, resolution: 32}
preview: {every: 1, prompts: [a cat face], prompts_2: [a red heart], negative: dull, negative_2: grey, steps: 2, width: 32, height: 32}
output: {dir: run}
EOF
run 0 train run.yaml
says "--prompt-2 'a red heart' --negative-prompt-2 grey"
run 0 sample --again run/samples/step-000001.png --lora run/lora.safetensors --model "$model" --out again.png
run 2 train run.yaml --set "preview.prompts_2=[a, b]" --set output.dir=other
says "preview.prompts_2 has 2 texts, preview.prompts 1"

# a LoRA of another family is called so, without a question that is answered
cp -r "$here/tests/golden/models/sd1" sd1
run 0 train run.yaml --set model.base=sd1 --set "preview.prompts_2=[]" --set preview.negative_2= --set output.dir=one
run 2 sample --model "$model" --prompt "a cat" --lora one/lora.safetensors --out none.png
says "the model has no such layer; it was made for Stable Diffusion 1.x"

# few steps, 16 bits, 8 bits, memory given back
for words in "--sampler euler_a --schedule trailing --steps 1 --cfg 1" "--sampler lcm --steps 4 --cfg 1" \
    "--dtype f16" "--dtype bf16 --quantise int8" "--offload all"; do
    draw told --model "$model" $words
done

# a LoRA of another family, and parts that do not fit
run 2 sample --model "$model" --prompt "a cat" --lora "$here/tests/golden/lora/kohya.safetensors" --out none.png
cp -r "$model" refiner && rm -r refiner/text_encoder
run 2 sample --model refiner --prompt "a cat" --out none.png
says "is SDXL's refiner"
cp -r "$model" broken && sed -i 's/"projection_dim": 20/"projection_dim": 21/' broken/text_encoder_2/config.json
run 2 sample --model broken --prompt "a cat" --out none.png
says "its UNet takes 47 numbers beside the text's vector of 21"
cp -r "$model" deep && mkdir deep/transformer
run 2 sample --model deep --prompt "a cat" --out none.png
says "an SD3 or Flux model?"
finish "sdxl: everything as it should be"
