#!/bin/bash
# `atelier sample` as a user meets it: file names, numbering, what the PNG says, seeds, batches, JSON, traces, refusals.
#
#     sample.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
model=$here/tests/golden/models/sd1
lora=$here/tests/golden/lora/kohya.safetensors
cd "$work" || exit 1
# gcc 12's leak checker falls over the thread-local memory of libraries opened late; leaks are looked for in the tests that
# link the library
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0

# draw WANTED_STATUS ARGUMENTS...: as run
draw() {
    run "$1" sample "${@:2}"
}

prints() {
    grep -qxF -- "$1" out || fail "\"$1\" is no line of: $(cat out)"
}

holds() { # FILE TEXT
    grep -aqF -- "$2" "$1" || fail "$1 does not hold \"$2\""
}

same() {
    cmp -s "$1" "$2" || fail "$1 and $2 differ"
}

heart=(--model "$model" --prompt "a red heart" --steps 2)

# without --out: named by the seed, numbered where the name is taken, and the same bytes each time
draw 0 "${heart[@]}" --seed 5
prints atelier-5.png
draw 0 "${heart[@]}" --seed 5
prints atelier-5-2.png
same atelier-5.png atelier-5-2.png
holds atelier-5.png "parameters"
holds atelier-5.png "a red heart"
holds atelier-5.png "Steps: 2, Sampler: PLMS, CFG scale: 7.5, Seed: 5, Size: 32x32, Model: sd1, Version: atelier "
holds atelier-5.png '"seed":"5"'

# fewer threads than asked for: said, and no work is left undone
draw 0 "${heart[@]}" --seed 5 --threads 1 --dtype f32 --save-latents one.safetensors --out one.png
OMP_THREAD_LIMIT=1 draw 0 "${heart[@]}" --seed 5 --threads 2 --dtype f32 --save-latents two.safetensors --out two.png
says "OpenMP gives 1 of the 2 threads that are asked for"
same one.safetensors two.safetensors

# a picture of a batch is the picture of its seed alone
draw 0 "${heart[@]}" --seed 4,9 --batch 2 --out many.png --save-latents many.safetensors
for seed in 4 5 9 10; do prints "many-$seed.png"; done
same many-5.png atelier-5.png
[ "$(head -c 400 many.safetensors | grep -aoE '"shape":\[[0-9,]+\]')" = '"shape":[4,4,16,16]' ] ||
    fail "latents of another shape: $(head -c 200 many.safetensors)"

# from a picture, and over a part of it: said in the PNG, and what is not masked is the same
draw 0 "${heart[@]}" --seed 5 --init atelier-5.png --strength 0.5 --steps 4 --out again.png
holds again.png "Denoising strength: 0.5"
holds again.png '"init":"atelier-5.png","strength":0.5,"fit":"stretch"'
draw 0 "${heart[@]}" --seed 6 --init atelier-5.png --mask again.png --mask-paste on --out over.png
holds over.png '"mask":"again.png"'
draw 0 "${heart[@]}" --seed 5 --hires 1.5 --hires-strength 0.5 --variation 0.25 --variation-seed 9 --tiling x --out two.png
holds two.png "Denoising strength: 0.5, Hires upscale: 1.5, Hires upscaler: Latent"
holds two.png "Variation seed: 9, Variation seed strength: 0.25, Tiling: True"
holds two.png '"variation":0.25,"variation_seed":"9","tiling":"x"'
draw 0 "${heart[@]}" --seed 5 --width 256 --vae-tile 64 --out tiles.png
# what fits into so much is chosen and said, and it is enough; where nothing is, what would be
tiny=(--model builtin:tiny --prompt "a red heart" --steps 1 --width 512 --height 512 --out fit.png)
draw 0 "${tiny[@]}" --json
peak() { grep -oE '"peak_bytes": [0-9]+' out | grep -oE '[0-9]+'; }
whole=$(peak)
draw 0 "${tiny[@]}" --json --max-memory 2G
says "needed in f32"
limit=$((whole * 7 / 10))
draw 0 "${tiny[@]}" --json --max-memory $limit
says "MB are needed in"
[ "$(peak)" -le $limit ] || fail "--max-memory $limit: $(peak) were taken (without: $whole)"
draw 2 "${tiny[@]}" --max-memory 20M
says "the least that this picture needs is"
draw 2 "${tiny[@]}" --max-memory 20M --sheet width=64,512
says "the least that the picture that needs most needs is"
# what was not asked for is not advised against
draw 2 "${tiny[@]}" --max-memory 20M --dtype f32
says "or leave --dtype away"
draw 2 "${tiny[@]}" --max-memory 20M --dtype bf16 --quantise none
says "or leave --quantise away"
draw 2 "${tiny[@]}" --max-memory 2X
says "is no size"
# TF32 is a GPU's, which is said, and the picture is the same without; it is about f32
draw 0 "${heart[@]}" --seed 5 --device cpu --tf32 --out tf32.png
says "the processor has no TF32"
same tf32.png atelier-5.png
draw 2 "${heart[@]}" --tf32 --dtype bf16
says "sample: --tf32: is a way to multiply f32, and bf16 is stored"
draw 2 "${heart[@]}" --xformers
says "--xformers is another program's: attention is computed in one way here"
draw 2 "${heart[@]}" --attention flash
says "--attention is another program's"
for name in "DPM++ 2M Karras:dpmpp_2m --schedule karras" "euler_ancestral:euler_a" "EulerAncestralDiscreteScheduler:euler_a" \
    "k_dpm_2_a:dpm2_a" "dpmpp_2m_sde_gpu:dpmpp_2m_sde" "PLMS:pndm" "DPM++ SDE Exponential:dpmpp_sde --schedule exponential"; do
    draw 2 "${heart[@]}" --sampler "${name%%:*}"
    says "--sampler \"${name%%:*}\" is another program's word: here it is --sampler ${name#*:}"
done
draw 2 "${heart[@]}" --sampler restart
says "unknown sampler"
draw 2 "${heart[@]}" --seed -1
says "for any seed, --seed \$RANDOM"
draw 2 "${heart[@]}" --mem_eff_attn
says "there is nothing to choose"
draw 2 "${heart[@]}" --medvram
says "here it is --offload idle"
draw 2 "${heart[@]}" --vae-tile small
says "--vae-tile small: is neither a number of pixels nor auto nor off"
draw 2 "${heart[@]}" --width 256 --vae-tile 64 --tiling x
says "do not go together"
draw 2 "${heart[@]}" --strength 0.5
says "--strength is about the picture of --init, which is not given"
draw 2 "${heart[@]}" --init atelier-5.png --mask-soft
says "--mask-soft is about the picture of --mask"
draw 2 "${heart[@]}" --init atelier-5.png --steps 1 --strength 0.5
says "less than one step"
draw 2 "${heart[@]}" --init "$lora"
says "--init: $lora: is not a JPEG, PNG or WebP picture"
draw 2 "${heart[@]}" --init nothing.png
says "nothing.png"

# --out: a file is replaced, a folder is made
draw 0 "${heart[@]}" --seed 5 --out one.png
draw 0 "${heart[@]}" --seed 5 --out one.png
prints one.png
same one.png atelier-5.png
draw 0 "${heart[@]}" --out new/folder --sampler euler --negative "bad" --clip-skip 1 --cfg 3 --width 48
prints new/folder/atelier-0.png
holds new/folder/atelier-0.png "Negative prompt: bad"
holds new/folder/atelier-0.png "Sampler: Euler, CFG scale: 3, Seed: 0, Size: 48x32, Model: sd1, Clip skip: 2"

# samplers, schedules, noise: as asked for, and said in the picture
draw 0 "${heart[@]}" --sampler dpmpp_2m --schedule karras --out karras.png
holds karras.png "Sampler: DPM++ 2M, Schedule type: Karras, CFG scale"
holds karras.png '"schedule":"karras"'
draw 0 "${heart[@]}" --sampler dpmpp_2m --out spaced.png
cmp -s karras.png spaced.png && fail "the schedule does nothing"
draw 0 "${heart[@]}" --rng cuda:rtx4090 --guidance-rescale 0.7 --out cuda.png
holds cuda.png '"rng":"cuda:rtx4090","guidance_rescale":0.7'
draw 2 "${heart[@]}" --rng cuda:rtx4091
says "did you mean rtx4090"
draw 2 "${heart[@]}" --sampler ddim --schedule karras
says "goes by timesteps"

# a LoRA counts by its scale, and stands in the prompt as A1111 has it
draw 0 "${heart[@]}" --seed 5 --lora "$lora:0.5" --out lora.png
cmp -s lora.png atelier-5.png && fail "the LoRA does nothing"
holds lora.png "a red heart <lora:kohya:0.5>"
draw 0 "${heart[@]}" --seed 5 --lora "$lora:0" --save-latents zero.safetensors --out zero.png
draw 0 "${heart[@]}" --seed 5 --save-latents none.safetensors --out none.png
same zero.safetensors none.safetensors

# what the user would not expect is said
draw 0 "${heart[@]}" --out long.png --negative "$(printf 'word %.0s' $(seq 100))"
says "the negative has 200 tokens"
says "sees the first 75"
draw 2 "${heart[@]}" --negative $'caf\xe9'
says "--negative: text is not valid UTF-8: byte 0xe9 at offset 3"

# JSON and traces
draw 0 "${heart[@]}" --json --sampler ddim --trace trace --dtype bf16 --threads 1 --out json.png
grep -q '"file": "json.png"' out || fail "no file in: $(cat out)"
grep -q '"threads": 1' out || fail "no threads in: $(cat out)"
[ "$(ls trace)" = "$(printf 'step-%06d.safetensors\n' 1 2)" ] || fail "trace holds: $(ls trace)"
holds trace/step-000002.safetensors conditioning
# a UNet of nine channels is asked with the mask and the masked picture, too
mkdir inpaints
ln -s "$model"/{scheduler,text_encoder,tokenizer,vae,model_index.json} "${model%/*}/inpaint/unet" inpaints
draw 0 --model inpaints --prompt "a red heart" --steps 2 --init atelier-5.png --mask again.png --trace nine --out nine.png
grep -aoE '"input":\{[^}]*\}' nine/step-000001.safetensors | grep -qF '"shape":[2,9,16,16]' ||
    fail "the trace has an input of another shape: $(head -c 400 nine/step-000001.safetensors)"

# what a prompt means elsewhere is told once, and a prompt without is plain
draw 0 "${heart[@]}" --negative "(bad:1.5), BREAK" --out plain.png
says 'prompts are plain text: "(bad:1.5)" is read as the words that stand there'
draw 0 --model "$model" --prompt "a (red:1.2) heart" --negative "<lora:cat:1> [a:b:0.5]" --steps 2 --out plain.png
[ "$(grep -c "plain text" err)" = 1 ] || fail "one warning is wanted: $(cat err)"
for text in "a heart <lora:cat:0.8> red" "one BREAK two" "[cat:dog:0.5]"; do
    draw 0 --model "$model" --prompt "$text" --steps 2 --out plain.png
    says "prompts are plain text"
done
draw 0 --model "$model" --prompt "a (red) heart: BREAKfast, 1:1.5, (a:b) <b>" --steps 2 --out plain.png
grep -q "plain text" err && fail "an ordinary prompt is warned of: $(cat err)"

# in scripts: to standard output, endings in capitals, all settings in JSON
draw 0 "${heart[@]}" --seed 5 --out -
cmp -s out atelier-5.png || fail "--out - writes another picture"
draw 0 "${heart[@]}" --seed 5 --threads 0 --out CAPITALS.PNG
same CAPITALS.PNG atelier-5.png
draw 2 "${heart[@]}" --seed 5,6 --out -
says "one picture goes to standard output"
draw 2 "${heart[@]}" --json --out -
draw 0 "${heart[@]}" --json --lora "$lora:0.5" --clip-skip 1 --out json.png
for fact in '"clip_skip": 1' '"scale": 0.5' "\"file\": \"$lora\""; do
    grep -qF -- "$fact" out || fail "$fact is not in: $(cat out)"
done
draw 2 "${heart[@]}" --seed 18446744073709551615 --batch 2
says "would go past the largest"
draw 0 "${heart[@]}" --seed 18446744073709551615 --out last.png

# other formats, by the name or by --format; what is written about a picture is in each
draw 0 "${heart[@]}" --seed 5 --out some.jpg
draw 0 "${heart[@]}" --seed 5,6 --out some.webp --quality 100
prints some-6.webp
draw 0 "${heart[@]}" --seed 5 --format jpeg
prints atelier-5.jpg
same atelier-5.jpg some.jpg
draw 0 "${heart[@]}" --seed 5 --format webp --quality 50 --out - && cp out half.webp
[ "$(head -c 4 half.webp)" = RIFF ] || fail "--format webp writes something else"
[ "$(stat -c %s half.webp)" -lt "$(stat -c %s some-5.webp)" ] || fail "quality 50 is no smaller"
for file in some.jpg some-5.webp half.webp; do holds $file '"seed":"5"'; done
echo mine >mine.jpg
draw 2 "${heart[@]}" --out mine.jpg
says "is left alone"

# a name with colons stays whole
ln -s "$model" my:model:2
draw 0 --model my:model:2 --prompt x --steps 2 --out colon.png
holds colon.png 'Model: "my:model:2"'

# refusals name what to do
draw 2 --prompt x
says "--model is missing"
draw 2 "${heart[@]}" --width 33
says "the nearest are 32 and 34"
draw 2 "${heart[@]}" --sampler eular
says "did you mean euler?"
draw 2 "${heart[@]}" --out picture.gif
says "pictures are written as .png, .jpg or .webp"
draw 2 "${heart[@]}" --out picture.jpg --format png
says "are two kinds of files"
draw 2 "${heart[@]}" --out one.png/folder
says "one.png"
grep -q "step" err && fail "worked before it looked where to write"
draw 2 "${heart[@]}" --seed 1,x
says '`x` is no whole number'
draw 2 "${heart[@]}" --lora "$lora:strong"
says '`strong` is no scale'
draw 2 "${heart[@]}" --lora nothing.safetensors
says "nothing.safetensors"
draw 2 "${heart[@]}" --steps 1000
says "do not fit"
draw 2 --model nowhere --prompt x
says "nowhere"
draw 2 "${heart[@]}" --inti x.png
says "unknown option --inti"
draw 2 "${heart[@]}" --lora "$model/unet/diffusion_pytorch_model.safetensors"
says "is not a LoRA: no key names a low-rank pair"
[ ! -e picture.jpg ] && [ ! -e picture.gif ] || fail "a refused request wrote a file"

# files may be called anything: what is not UTF-8 is written as \xE8, and no name is cut, however long its path
bytes=$(printf 'mod\350le')
far=$(printf 'ж%.0s' {1..100})
mkdir "$far"
cp -r "$model" "$bytes"
cp -r "$model" "$far/$far"
cp "$lora" "$bytes.safetensors"
draw 0 --model "$bytes" --prompt heart --steps 1 --lora "$bytes.safetensors" --out bytes.png --json
grep -qF '"model": "mod\\xE8le"' out || fail "--json names another model: $(cat out)"
holds bytes.png '"model":"mod\\xE8le"'
holds bytes.png '"loras":[{"file":"mod\\xE8le.safetensors","scale":1.0}]'
holds bytes.png '<lora:mod\xE8le:1>'
draw 0 --model "$far/$far" --prompt heart --steps 1 --out far.png
holds far.png "\"model\":\"$far\""
holds far.png "Model: $far, Version"

finish "sample: everything as it should be"
