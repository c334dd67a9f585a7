#!/bin/bash
# What atelier sample reads into prompts, and whose conventions it follows. Breaks if a syntax is read without being asked
# for, or not where it is; if tags, strengths or embeddings of the command line do nothing; if what is wrong with them is
# not said.
#
#     prompt_options.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
cd "$work" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 # as in sample.sh
golden=$here/tests/golden
model=$golden/models/sd1

draw() { # STATUS OPTIONS...: a small picture, one.png
    "$atelier" sample --model "$model" --steps 2 --width 32 --height 32 --threads 1 --out one.png "${@:2}" >out 2>err
    local status=$?
    [ $status = "$1" ] || fail "exit status $status, not $1: sample ${*:2}: $(cat err)"
}
says() { grep -qF -- "$1" err || fail "does not say \"$1\": $(cat err)"; }
quiet() { ! grep -qF -- "$1" err || fail "says \"$1\": $(cat err)"; }
kept() { cp one.png "$1.png"; }
pixels() { "$atelier" sample --model "$model" --steps 2 --width 32 --height 32 --threads 1 --out one.png --save-latents "$1" "${@:2}" >out 2>err || fail "$(cat err)"; }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
other() { ! cmp -s "$1" "$2" || fail "$1 and $2 are the same"; }

# weights are read where they are asked for
pixels plain --prompt 'a red heart'
pixels words --prompt 'a (red:1.5) heart'
says 'prompts are plain text: "(red:1.5)"'
pixels a1111 --prompt 'a (red:1.5) heart' --compat a1111
quiet 'plain text'
pixels syntax --prompt 'a (red:1.5) heart' --prompt-syntax a1111
pixels told --prompt 'a (red:1.5) heart' --compat a1111 --prompt-syntax a1111
pixels untold --prompt 'a (red:1.5) heart' --compat a1111 --prompt-syntax plain
pixels comfy --prompt 'a (red:1.5) heart' --compat comfy
pixels one --prompt 'a (red:1.0) heart' --compat a1111
other plain words
other a1111 comfy
other a1111 plain
other syntax plain
other syntax words
same a1111 told
other a1111 untold

# words that change: before the change it is one picture, with another afterwards it is none of both
pixels fish --prompt 'a blue heart' --compat a1111
pixels never --prompt 'a [red:blue:2] heart' --compat a1111
pixels at_once --prompt 'a [red:blue:0] heart' --compat a1111
pixels alternate --prompt 'a [red|blue] heart' --compat a1111
same never one
same at_once fish
other alternate fish

# long prompts
long="a red heart, $(printf 'and a blue fish, %.0s' $(seq 30))"
pixels cut --prompt "$long"
says 'the text encoder sees the first 75 (--long-prompts: all)'
pixels long --prompt "$long" --long-prompts
quiet 'the text encoder sees'
other cut long
draw 0 --prompt 'x BREAK y BREAK z' --negative 'a BREAK b' --compat a1111

# clip skip in each way of counting, and told
pixels skipped --prompt 'a heart' --clip-skip 1
says 'clip skip 1, as diffusers counts: 1 layer of the text encoder left out (1 in diffusers, 2 in AUTOMATIC1111, -2 in ComfyUI)'
pixels theirs --prompt 'a heart' --clip-skip 2 --compat a1111
says 'clip skip 2, as AUTOMATIC1111 counts: 1 layer of the text encoder left out'
pixels none --prompt 'a heart' --clip-skip 1 --compat a1111
other none theirs
draw 2 --prompt 'a heart' --clip-skip 0 --compat a1111
says 'AUTOMATIC1111 counts from 1'

# and made again from the picture, which holds whose way it was
for options in '--compat a1111' '--compat a1111 --clip-skip 2' '--compat comfy' '--clip-skip 1' '--prompt-syntax a1111'; do
    # shellcheck disable=SC2086
    draw 0 --prompt 'a (red:1.3) heart' $options
    "$atelier" sample --again one.png --model "$model" --threads 1 --out again.png >out 2>err || fail "$options: $(cat err)"
    same one.png again.png
done

# LoRAs: strengths of parts, and tags in prompts
mkdir -p loras/cats
cp "$golden/adapters/locon.safetensors" loras/cats/cat.safetensors
pixels lora --prompt 'a heart' --lora loras/cats/cat.safetensors:0.8
pixels tag --prompt 'a heart <lora:cat:0.8>' --lora-dir loras
pixels middle --prompt 'a heart' --lora loras/cats/cat.safetensors:0.8,mid=0
pixels middle_tag --prompt 'a heart <lora:cat:0.8:mid=0>' --lora-dir loras
pixels nothing --prompt 'a heart' --lora loras/cats/cat.safetensors:unet=0:te=0
pixels without --prompt 'a heart'
same lora tag
same middle middle_tag
other lora middle
same nothing without
draw 0 --prompt 'a heart' --lora loras/cats/cat.safetensors:0.8,mid=0,te=0.5
grep -qa '<lora:cat:0.8:te=0.5:mid=0>' one.png || fail 'the picture does not say its LoRA'
draw 0 --prompt 'a heart <lora:cat:0.8>'
says 'a LoRA is given with --lora'
draw 2 --prompt 'a heart <lora:cat:0.8>' --compat a1111
says 'say with --lora-dir in which folder it is'
draw 2 --prompt 'a heart <lora:cap:0.8>' --lora-dir loras
says 'there is no LoRA `cap`; did you mean `cat`?'
draw 2 --prompt 'a heart' --lora loras/cats/cat.safetensors:0.8:down.9=1
says 'no block `down_blocks.9`'
draw 2 --prompt 'a heart' --lora loras/cats/cat.safetensors:1:lbw=1,2
says 'lbw has 2 factors'
draw 2 --prompt 'a heart <hypernet:x:1>' --compat a1111
says 'hypernetworks are not supported'
draw 2 --prompt 'a heart AND a fish' --compat a1111
says 'the prompt has `AND`'

# what such files are, and for which models
"$atelier" lora info "$golden/adapters/locon-dora.safetensors" >out 2>err || fail "$(cat err)"
grep -qE '^dora modules +8$' out || fail "lora info says no DoRA: $(cat out)"
"$atelier" lora info --json "$golden/adapters/locon.safetensors" >out 2>err || fail "$(cat err)"
grep -q '"dora_modules": null' out || fail "lora info says DoRA: $(cat out)"

# embeddings
mkdir -p toys
cp "$here/tests/fuzz/corpus/embedding/a1111.safetensors" toys/toy.safetensors
cp "$here/tests/fuzz/corpus/embedding/diffusers.bin" toys
pixels plain_toy --prompt 'a toy heart'
pixels toy --prompt 'a toy heart' --embedding toys/toy.safetensors
pixels folder --prompt 'a toy heart' --embedding-dir toys
pixels comfy_toy --prompt 'a embedding:toy heart' --prompt-syntax comfy --embedding-dir toys
pixels word --prompt 'a <cat-toy>, heart' --embedding-dir toys
pixels plain_word --prompt 'a <cat-toy>, heart'
other toy plain_toy
same toy folder
same toy comfy_toy
other word plain_word
draw 2 --prompt 'a embedding:cat' --compat comfy --embedding-dir toys
says 'no such embedding was given'
draw 2 --prompt x --embedding loras/cats/cat.safetensors
says 'is no textual-inversion embedding'
"$atelier" sample --model builtin:tiny --prompt x --embedding toys/toy.safetensors --out one.png >out 2>err
[ $? = 2 ] || fail 'an embedding of another width is taken'
says 'has vectors of 16 numbers'

finish "prompts: everything as it should be"
