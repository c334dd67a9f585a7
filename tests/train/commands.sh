#!/bin/bash
# Every command's help, and what the program answers to mistakes: exit status and message. Breaks if a command loses its
# help or its help does not fit a terminal, if a mistake ends in another status than 2, or if nothing is said about it.
#
#     commands.sh ATELIER
. "$(dirname "$0")/../checks" "$1"

prints() {
    local text
    for text in "$@"; do
        grep -qF -- "$text" "$work/out" || fail "\"$text\" is not in the output of the last command"
    done
}

fits_a_terminal() {
    local longest
    longest=$(LC_ALL=C.UTF-8 awk '{ if (length($0) > n) n = length($0) } END { print n + 0 }' "$1")
    [ "$longest" -le 80 ] || fail "$2: a line of $longest columns"
}

# Help -------------------------------------------------------------------------------------------------------------------
for command in "train" "sample" "data build" "data lint" "data info" "config show" "config check" "config explain" "config schema" \
    "config reference" "lora info" "model info" "model convert" "bench" "doctor"; do
    for form in "$command --help" "$command -h" "help $command"; do
        # shellcheck disable=SC2086
        run 0 $form
        prints "usage: atelier $command"
        [ -s "$work/err" ] && fail "atelier $form: writes to standard error"
    done
    fits_a_terminal "$work/out" "atelier $command --help"
    prints "Example:"
done
for family in "" data config lora model; do
    # shellcheck disable=SC2086
    run 0 $family --help
    fits_a_terminal "$work/out" "atelier $family --help"
    # shellcheck disable=SC2086
    run 2 $family
done
run 0 --help
for word in train sample data config lora model bench doctor; do
    prints "  $word "
done
run 0 --version
prints "atelier "
run 0 config explain
fits_a_terminal "$work/out" "atelier config explain"

# Mistakes ---------------------------------------------------------------------------------------------------------------
run 2 trian
says 'atelier: error: unknown command `trian`; did you mean `train`?'
run 2 qwertyuiop
says 'unknown command `qwertyuiop`'
run 2 help trian
says 'did you mean `train`?'
run 2 config shwo
says 'did you mean `config show`?'
run 2 config show
says 'FILE.yaml is missing'
run 2 config show "$work/none.yaml"
says "$work/none.yaml"
run 2 config show a.yaml b.yaml
says 'one argument too many'
run 2 config explain train.stps
says 'did you mean train.steps?'
run 2 bench unet --sizes tiny
says 'unknown option --sizes; did you mean --size?'
run 2 bench unett
says 'unet, vae, encode, clip, train, full'
run 2 bench --size large
run 2 bench unet --size tiny --res 20
says 'multiples of 16'
run 2 bench unet --repeat 0
run 2 train
run 2 train "$work/none.yaml"
says "$work/none.yaml"
run 2 sample --model builtin:nosuch --prompt x
says 'builtin:nosuch'
run 2 model info "$work/none"
says "$work/none"
run 2 model info builtin:nosuch
run 2 lora info "$work/none.safetensors"
run 2 bench clip --size tiny --device gpu
says 'one of auto, cpu, cuda, cuda:N, cuda:GPU-UUID'
run 2 sample --model builtin:tiny --prompt x --device cuda:4711
says 'sample: --device: cuda:4711: '
run 2 train "$work/none.yaml" --device cup
says '--device wants one of auto, cpu, cuda'
for command in train sample bench 'data build'; do
    # shellcheck disable=SC2086
    run 0 $command --help
    prints 'auto|cpu|cuda|cuda:N|cuda:GPU-UUID'
done
run 2 doctor --jsn
says 'did you mean --json?'

# What lint says for programs, and its sheet
mkdir "$work/set"
cp "$here"/data/examples/b*.jpg "$here"/data/examples/b*.txt "$work/set"
run 0 data lint "$work/set" --json --sheet "$work/sheet.PNG"
for word in path pictures errors losses notes; do prints "\"$word\""; done
[ "$(head -c 4 "$work/sheet.PNG" | tail -c 3)" = PNG ] || fail "no sheet was drawn"
run 2 data lint "$work/set" --sheet "$work/sheet.jpg"
says 'name it .png'
printf 'word %.0s' $(seq 100) >"$work/set/bell.txt"
run 1 data lint "$work/set"
prints 'loss: 1 caption is longer than the 75 tokens that a text encoder sees: bell.jpg (100)'
run 1 data lint "$work/set" --json
prints '1 caption is longer than the 75 tokens'

# Configurations ---------------------------------------------------------------------------------------------------------
cat >"$work/good.yaml" <<'YAML'
model: {base: builtin:tiny}
dataset: {path: cat.h5}
train: {steps: 10}
YAML
cat >"$work/bad.yaml" <<'YAML'
model: {base: builtin:tiny}
dataset: {path: cat.h5}
train:
  stpes: 10
YAML
run 0 config check "$work/good.yaml"
prints 'all right'
says 'dataset.path'
run 2 config check "$work/good.yaml" "$work/bad.yaml"
prints "$work/good.yaml: all right"
says "atelier: error: $work/bad.yaml:4:3: unknown key train.stpes; did you mean train.steps?"
run 2 config check "$work/good.yaml" "$work/bad.yaml" --json
prints '"right": true'
prints '"key": "dataset.path"'
prints '"right": false'
prints "bad.yaml:4:3: unknown key train.stpes"
[ -s "$work/err" ] && fail "config check --json writes to standard error too"
run 2 train "$work/bad.yaml"
says "$work/bad.yaml:4:3: unknown key"
run 2 config check "$work/good.yaml" --set train.steps=1e3
says '--set train.steps=1e3: train.steps wants a whole number'
run 0 config show "$work/good.yaml" --set train.steps=7 --set "preview.prompts=[a, b]"
prints '  steps: 7'
prints '  prompts: [a, b]'
cp "$work/out" "$work/again.yaml"
run 0 config show "$work/again.yaml"
cmp -s "$work/out" "$work/again.yaml" || fail "config show of its own output differs"
run 0 config schema
prints '"$schema": "https://json-schema.org/draft/2020-12/schema"'

# A reader that has seen enough is no crash
"$atelier" config explain 2>"$work/err" | head -n 1 >/dev/null
status=${PIPESTATUS[0]}
[ "$status" -eq 0 ] || fail "atelier config explain | head: status $status"
"$atelier" config explain >/dev/full 2>"$work/err" && fail "a full disk is no success"
says 'cannot write to standard output'

# Facts ------------------------------------------------------------------------------------------------------------------
"$atelier" doctor --json >"$work/out" 2>"$work/err"
[ $? -le 1 ] || fail "atelier doctor --json"
for word in instruction_sets path_chosen oneDNN HDF5 builtin_model gpu CUDA_built_with devices; do
    prints "\"$word\""
done
ATELIER_ISA=baseline "$atelier" doctor >"$work/out" 2>"$work/err"
prints 'baseline'
# Where threads have computed, gcc 12's leak checker falls over the thread-local memory of libraries that were opened
# late, as the launcher opens ours; leaks are looked for in the tests that link the library.
ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 run 0 bench clip --size tiny --dtype f32 --repeat 1 --json
for word in work size resolution dtype device threads median_s flop peak_flops share_of_peak peak_bytes; do
    prints "\"$word\""
done
printf 'PK\003\004pickled' >"$work/model.ckpt"
run 1 model info "$work/model.ckpt"
says 'is a zip archive without its directory'

# The other layout.
run 0 model convert builtin:tiny "$work/tiny.safetensors"
prints "$work/tiny.safetensors"
says 'other programs take it for that of Stable Diffusion'
run 0 model info "$work/tiny.safetensors" --json
prints '"layout": "single file"' '"format": "safetensors"' '"inpainting": false' '"ema_weights": false'
run 0 model convert "$work/tiny.safetensors" "$work/tiny" --dtype f32
run 0 model info "$work/tiny" --json
prints '"layout": "diffusers folder"' '"f32"'
run 2 model convert builtin:tiny "$work/tiny"
says 'is there already'
run 2 model convert builtin:tiny "$work/tiny.ckpt"
says 'single files are written as .safetensors'
run 2 model convert builtin:tiny "$work/other" --ema
says 'has one set of weights'

# What files are that are no models.
golden=$(dirname "$0")/../golden
run 0 model info "$golden/lora/kohya.safetensors" --json
prints '"kind": "lora"' '"format": "safetensors"'
run 0 model info "$golden/torch/embedding.pt" --json
prints '"kind": "embedding"' '"format": "ckpt"'
run 0 model info "$work/tiny/vae/diffusion_pytorch_model.safetensors" --json
prints '"kind": "vae"' '"latent_channels": 4'

finish "all commands answer"
