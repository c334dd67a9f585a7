#!/bin/bash
# A picture made again from what it says about itself.
#
#     again.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
model=$here/tests/golden/models/sd1
lora=$here/tests/golden/lora/kohya.safetensors
cd "$work" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0

same() {
    cmp -s "$1" "$2" || fail "$1 and $2 differ"
}

# everything that the picture depends on: prompt, numbers, type, LoRAs, options that settings have no name for
cp "$lora" heart.safetensors
run 0 sample --model "$model" --prompt 'a "red" heart, ünï' --negative "bad=1" --steps 3 --cfg 4.25 --sampler euler_a \
    --seed 18446744073709551615 --width 48 --clip-skip 1 --dtype bf16 --lora heart.safetensors:0.35:te=0.1:mid=2 --out one.png
for format in png jpg webp; do
    run 0 sample --again one.png --model "$model" --out again.$format
    says "the same picture as one.png, in every pixel"
done
same one.png again.png
run 0 sample --again again.jpg --model "$model" --out from_jpg.png
same one.png from_jpg.png
run 0 sample --again again.webp --model "$model" --out from_webp.png
same one.png from_webp.png

# what is given besides counts; a difference is told
run 0 sample --again one.png --model "$model" --cfg 5 --out other.png
says "not the pixels of one.png: they differ by up to"
cp -r "$model" other
printf '\377' | dd of=other/unet/diffusion_pytorch_model.safetensors bs=1 seek=30000 conv=notrunc status=none
run 0 sample --again one.png --model other --out other.png
says "one.png was made with another model than other"

# files that a picture names are looked for here and beside it
mkdir beside && mv one.png heart.safetensors beside
run 0 sample --again beside/one.png --model "$model" --out again.png
same beside/one.png again.png
rm beside/heart.safetensors
run 2 sample --again beside/one.png --model "$model" --out again.png
says "was made with --lora heart.safetensors, which is neither here nor beside it nor in --lora-dir"

mkdir loras && cp "$lora" loras/heart.safetensors
run 0 sample --again beside/one.png --model "$model" --lora-dir loras --out again.png
same beside/one.png again.png
run 0 sample --model "$model" --prompt "a heart <lora:heart:0.6>" --lora-dir loras --steps 2 --out tagged.png
run 0 sample --again tagged.png --model "$model" --lora-dir loras --out again.png
says "the same picture as tagged.png, in every pixel"

# a picture that it began from can be another one now
run 0 sample --model "$model" --prompt "a red heart" --steps 2 --seed 1 --out begun.png
run 0 sample --model "$model" --prompt "a red heart" --steps 3 --init begun.png --strength 0.7 --out init.png
run 0 sample --again init.png --model "$model" --out again.png
same init.png again.png
mv begun.png moved.png
run 2 sample --again init.png --model "$model" --out again.png
says "begun.png"
run 0 sample --again init.png --model "$model" --init moved.png --out again.png
says "the same picture as init.png, in every pixel"

# one of a sheet, and a sheet over a picture
run 0 sample --model "$model" --prompt "a red heart" --steps 2 --sheet seed=4..6 --out sheet.png --sheet-pictures cells
run 0 sample --again sheet.png:2 --model "$model" --out again.png
same cells/2.png again.png
run 0 sample --again cells/2.png --model "$model" --sheet cfg=3,7.5 --out over.png --sheet-pictures over
same cells/2.png over/2.png
run 2 sample --again sheet.png --model "$model"
says "has 3 pictures on it; say which"
run 2 sample --again sheet.png:4 --model "$model"
says "no picture number 4, only 3"

# with the averages of a single file's weights
# FILE OUT: FILE's model with averages of its UNet beside it, the same tensors under model_ema's names with a byte changed.
with_averages() {
    local LC_ALL=C n header size at=0 entries= line name shape from to
    n=$(od -An -t u8 -N8 "$1" | tr -d ' ')
    header=$(tail -c +9 "$1" | head -c "$n")
    size=$(($(stat -c %s "$1") - 8 - n))
    : >averages
    while read -r line; do
        [[ $line =~ \"model\.diffusion_model\.([^\"]*)\":\{(.*)\"data_offsets\":\ ?\[([0-9]+),\ ?([0-9]+)\](.*)\} ]] || continue
        name=${BASH_REMATCH[1]//./} from=${BASH_REMATCH[3]} to=${BASH_REMATCH[4]}
        entries+=",\"model_ema.diffusion_model$name\":{${BASH_REMATCH[2]}\"data_offsets\":[$((size + at)),$((size + at + to - from))]${BASH_REMATCH[5]}}"
        tail -c +$((9 + n + from)) "$1" | head -c $((to - from)) >>averages
        at=$((at + to - from))
    done < <(grep -o '"model\.diffusion_model\.[^"]*":{[^}]*}' <<<"$header")
    printf '\021' | dd of=averages bs=1 seek=1001 conv=notrunc status=none
    header="${header%\}*}$entries}"
    while ((${#header} % 8)); do header+=" "; done
    { printf "$(printf '\\x%02x' $((${#header} & 255)) $((${#header} >> 8 & 255)) $((${#header} >> 16 & 255)) 0 0 0 0 0)"
      printf %s "$header"; tail -c "$size" "$1"; cat averages; } >"$2"
}
run 0 model convert "$model" one.safetensors
with_averages one.safetensors both.safetensors
run 0 sample --model both.safetensors --prompt "a red heart" --steps 2 --width 48 --height 48 --out own.png
run 0 sample --model both.safetensors --prompt "a red heart" --steps 2 --width 48 --height 48 --ema --out averaged.png
cmp -s own.png averaged.png && fail "--ema draws the same as without"
run 0 sample --model both.safetensors --again averaged.png --out again.png
same averaged.png again.png

# what cannot be made again
run 2 sample --again cells/2.png
says "give it with --model"
run 2 sample --again nothing.png
says "no such picture"
run 2 sample --again "$here/tests/golden/pictures/png-rgb.png" --model "$model"
says "does not say how it was made"
run 2 sample --again "$lora" --model "$model"
says "is not a JPEG, PNG or WebP picture"

finish "again: everything as it should be"
