#!/bin/bash
# Bad input, as a user has it: each case is answered by exactly one line "atelier: error: …" that says what is wrong,
# where, and what to do about it, with exit status 1 (failed while working) or 2 (the request was wrong); nothing is
# written. Breaks if a message loses one of those, turns into two, or if a half-written file stays.
#
#     bad_input.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
golden=$here/tests/golden
corpus=$here/tests/fuzz/corpus
cd "$work" || exit 1

# bad STATUS TEXT... -- ARGUMENTS...: the command ends so, each text stands in its one line of error
bad() {
    local wanted=$1 texts=() before after status
    shift
    while [ "$1" != -- ]; do
        texts+=("$1")
        shift
    done
    shift
    before=$(find . -not -name 'o-*' | LC_ALL=C sort)
    "$atelier" "$@" >o-out 2>o-err </dev/null
    status=$?
    after=$(find . -not -name 'o-*' | LC_ALL=C sort)
    [ "$status" -eq "$wanted" ] || fail "atelier $*: status $status, not $wanted: $(cat o-err)"
    [ "$(grep -c '^atelier: error: ' o-err)" -eq 1 ] && [ "$(grep -vcE '^(atelier: error: |(build|dataset)  )' o-err)" -eq 0 ] ||
        fail "atelier $*: not one line of error: $(cat o-err)"
    for text in "${texts[@]}"; do
        grep -qF -- "$text" o-err || fail "atelier $*: \"$text\" is not in: $(cat o-err)"
    done
    [ "$before" = "$after" ] || fail "atelier $*: left something: $(diff <(echo "$before") <(echo "$after"))"
}

good() {
    "$atelier" "$@" >o-out 2>o-err </dev/null || fail "atelier $*: status $?: $(cat o-err)"
}

# Folders of pictures ----------------------------------------------------------------------------------------------------
picture=$golden/pictures/jpeg-444.jpg
build() { # STATUS TEXT... -- FOLDER [OPTION...]
    local head=()
    while [ "$1" != -- ]; do
        head+=("$1")
        shift
    done
    bad "${head[@]}" -- data build "${@:2}" --out set.h5
}
folder() { mkdir -p "$1"; }

build 2 'nowhere: there is no such folder' -- nowhere
folder empty
build 2 'empty: no pictures (JPEG, PNG, WebP) in it' 'put some there' -- empty
folder texts; echo a cat >texts/notes.txt
build 2 'texts: no pictures' 'not used: notes.txt' -- texts
folder plain; cp "$picture" plain/a.jpg; cp "$picture" plain/b.jpg
build 1 'plain: 2 of 2 pictures have no caption: a.jpg, b.jpg' 'put the text into NAME.txt' -- plain
folder misnamed; cp "$picture" misnamed/a.jpg; cp "$picture" misnamed/b.jpg; echo b >misnamed/b.TXT; echo a >misnamed/a.jpg.txt
build 1 'misnamed: 1 of 2 pictures has no caption: a.jpg;' 'not used: a.jpg.txt' -- misnamed
bad 1 'plain: 2 of 2 pictures have no caption' -- data build plain --out set.h5 --skip-bad
bad 2 '--out' -- data build plain --caption x

folder cut; head -c 500 "$picture" >cut/a.jpg
build 1 'cut/a.jpg: JPEG data ends early at byte 500 (file truncated?)' 'fix or remove it' 'leave it out with --skip-bad' -- cut --caption x
jpeg_of() { # FOLDER OFFSET BYTE: the picture with another byte in its frame's header
    folder "$1"
    cp "$picture" "$1/a.jpg"
    # shellcheck disable=SC2059
    printf "$3" | dd of="$1/a.jpg" bs=1 conv=notrunc seek=$(($(LC_ALL=C grep -obUaP '\xff\xc0' "$picture" | head -1 | cut -d: -f1) + $2)) 2>o-err
}
jpeg_of deep 4 '\x0c'
build 1 'deep/a.jpg: is a JPEG of a kind that is not read (not of 8 bits a color); save it' -- deep --caption x
jpeg_of differing 1 '\xc5'
build 1 'differing/a.jpg: is a JPEG of a kind that is not read (lossless or hierarchical)' -- differing --caption x
folder text; echo 'not a picture' >text/a.jpg
build 1 'text/a.jpg: is not a JPEG, PNG or WebP picture' 'fix or remove it' -- text --caption x
folder zero; : >zero/a.png
build 1 'zero/a.png: the file is empty' -- zero --caption x
folder gif; printf 'GIF89a......' >gif/a.png
build 1 'gif/a.png: is a GIF; JPEG, PNG and WebP are read' -- gif --caption x
folder heic; printf '\0\0\0\030ftypheic....' >heic/a.jpg
build 1 'heic/a.jpg: is a HEIC, AVIF or video file; JPEG, PNG and WebP are read' -- heic --caption x
folder tiff; printf 'II*\0............' >tiff/a.jpg
build 1 'tiff/a.jpg: is a TIFF picture; JPEG' -- tiff --caption x
mv tiff/a.jpg tiff/a.heic
build 2 'tiff: no pictures' 'not used: a.heic (JPEG, PNG and WebP are read)' -- tiff
cp "$picture" alone.jpg
bad 1 'alone.jpg: is a picture, not a dataset; name the folder that it lies in' -- data info alone.jpg
folder nothing
"$atelier" data lint nothing >o-out 2>o-err
[ $? = 1 ] || fail "a folder without pictures: $(cat o-err)"
grep -q 'error: nothing: no pictures' o-out || fail "a folder without pictures: $(cat o-out)"
folder moving; base64 -d >moving/a.webp <<'B64'
UklGRsQAAABXRUJQVlA4WAoAAAACAAAABwAABwAAQU5JTQYAAAAAAAAAAABBTk1GSgAAAAAAAAAAAAcAAAcAAGQAAAJWUDggMgAA
ADABAJ0BKggACAABQCYloAADcAD+8ut///mwP/bz/wR6Af//0uD//pcH//S4P/SkAAAAQU5NRkYAAAAAAAAAAAAHAAAHAABkAAAA
VlA4IC4AAAA0AQCdASoIAAgAAAAmJaAAA3AA/vtV4///S4P/+lwf/9Lg/9Lg//rV5Vesq6AA
B64
build 1 'moving/a.webp: is an animated WebP; save one frame' -- moving --caption x
folder odd; cp "$picture" odd/a.jpg; mkfifo odd/b.jpg odd/metadata.jsonl # nothing waits for them
ln -s . odd/circle; ln -s none.jpg odd/gone.jpg; ln -s self.jpg odd/self.jpg; mkdir odd/c.jpg
good data build odd --out set.h5 --caption x
grep -q 'not used: gone.jpg (a link that leads nowhere), self.jpg (a link that leads nowhere), b.jpg, circle, metadata.jsonl' o-err || fail "pipes and circles: $(cat o-err)"
rm set.h5
mkfifo odd/a.txt
build 1 'odd/a.txt: is no ordinary file but a device or a pipe' -- odd
rm odd/a.txt; mkdir odd/a.txt
build 1 'odd/a.txt: is a folder, not a file' -- odd
rmdir odd/a.txt; head -c 10000000 /dev/zero | tr '\0' x >odd/a.txt
build 1 'odd/a.txt: a caption of 10000000 bytes is too long (65536 at most)' -- odd
if [ "$(id -u)" -ne 0 ]; then
    folder closed; cp "$picture" closed/a.jpg; chmod a-r closed/a.jpg
    build 1 'closed/a.jpg: cannot be opened: Permission denied' -- closed --caption x
fi
# 16,000 pixels a side in forms that give no row before they have all
folder whole; base64 -d >whole/a.png <<'B64'
iVBORw0KGgoAAAANSUhEUgAAPoAAAD6ACAYAAAE2ee9IAAAACElEQVR4nAMAAAAAAUgGidI=
B64
build 1 'whole/a.png: picture is 16000 x 16000 and interlaced, which takes 976 MB to decode' 'scale it down' -- whole --caption x
rm whole/a.png; base64 -d >whole/a.webp <<'B64'
UklGRhwAAABXRUJQVlA4TBAAAAAv/r//HwAAAAAAAAAAAAAA
B64
build 1 'whole/a.webp: picture is 16383 x 16383 and a WebP, which takes 2047 MB' -- whole --caption x
rm whole/a.webp; base64 -d >whole/a.jpg <<'B64'
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////
////////////////////2wBDAf//////////////////////////////////////////////////////////////////////////
////////////wgARCD6APoADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAL/xAAUAQEAAAAAAAAAAAAAAAAAAAAA/9oA
DAMBAAIQAxAAAAGgf//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAQUCf//EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQMB
AT8Bf//EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQIBAT8Bf//Z
B64
build 1 'whole/a.jpg: picture is 16000 x 16000 and a progressive JPEG, which takes 732 MB' -- whole --caption x
folder one # 1 x 1 pixel
base64 -d >one/a.png <<'B64'
iVBORw0KGgoAAAANSUhEUgAAAAEAAAABAQAAAAA3bvkkAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg==
B64
build 1 'one/a.png: picture is 1 x 1, too small to train on (8 x 8 at least)' 'fix or remove it' -- one --caption x
folder huge # 20,000 x 20,000: nothing behind the header is looked at
printf '\211PNG\r\n\032\n\0\0\0\rIHDR\0\0N\040\0\0N\040\010\002\0\0\0\0\0\0\0\0\0\0\0' >huge/a.png
build 1 'huge/a.png: picture is 20000 x 20000' 'scale it down' -- huge --caption x
folder wide # 20,000 x 8, white, 1 bit
base64 -d >wide/a.png <<'B64'
iVBORw0KGgoAAAANSUhEUgAATiAAAAAIAQAAAAA0wPLrAAAAOElEQVR42u3WQREAAAzCMPybBh3b
JRL6agoAwDmRAADAxAEAYOIAADBxAAAmDgAAEwcAgIkDAPhsDejWZIZUuRkAAAAASUVORK5CYII=
B64
good data build wide --out wide.h5 --caption x
grep -q '20000x8' o-out || fail "a picture 20,000 pixels wide: $(cat o-out)"
rm wide.h5
folder archive/2024_dog; cp "$picture" archive/2024_dog/a.jpg # a date is no number of repeats
build 1 'archive/2024_dog: 2024 repeats of each of 1 picture, and the caption of 1' 'rename it' '--folder-names plain' '--folder-names kohya' 'dataset.folder_names' -- archive
good data build archive --out set.h5 --caption x --folder-names plain
grep -q 'archive: 1 of 1 picture has no caption of its own and gets "x": 2024_dog/a.jpg' o-err || fail "the caption for all: $(cat o-err)"
rm set.h5
folder mixed; cp "$picture" mixed/a.jpg; cp cut/a.jpg mixed/b.jpg; cp text/a.jpg mixed/c.jpg
good data build mixed --out set.h5 --caption x --skip-bad
[ "$(grep -c '^atelier: warning: left out: mixed/[bc].jpg' o-err)" -eq 2 ] || fail "--skip-bad names: $(cat o-err)"
rm set.h5

# Captions ---------------------------------------------------------------------------------------------------------------
caption() { # NAME BYTES: a folder with one picture and its caption
    folder "$1"
    cp "$picture" "$1/a.jpg"
    printf '%b' "$2" >"$1/a.txt"
}
caption latin1 'caf\xe9'
build 1 'latin1/a.txt: byte 3 is not UTF-8' 'save the file as UTF-8' -- latin1
caption utf16 '\xff\xfea\0'
build 1 'utf16/a.txt: is UTF-16; save it as UTF-8' -- utf16
caption binary 'a\0b'
build 1 'binary/a.txt: byte 1 is zero' -- binary
caption windows '\xef\xbb\xbfa cat,\r\non a mat\r\n'
good data build windows --out set.h5
good data info set.h5 --json
grep -qF '"first": "a cat,\non a mat"' o-out || fail "BOM and CRLF: $(cat o-out)"
rm set.h5
folder jsonl; cp "$picture" jsonl/a.jpg
printf '{"file_name": "a.jpg", "text": "x"}\n{"file_name": "a.jpg" "text"}\n' >jsonl/metadata.jsonl
build 1 'jsonl/metadata.jsonl: line 2: not valid JSON: ' -- jsonl
printf '{"file_name": "a.jpg", "caption": "x"}\n' >jsonl/metadata.jsonl
build 1 'metadata.jsonl: line 1: needs "text"' -- jsonl

# Names ------------------------------------------------------------------------------------------------------------------
folder names
for name in 'with space' 'Ünï 猫' $'new\nline' $'byte\xff' -dash "quote'\"" '%s%n' '$(x)'; do
    cp "$picture" "names/$name.jpg"
done
good data build names --out set.h5 --caption x
good data lint set.h5
[ "$(grep -c '^note: ' o-out)" -eq 7 ] || fail "eight equal files are named in one line each: $(cat o-out)"
grep -qF 'new\nline.jpg' o-out || fail "a line end in a name is shown as \\n: $(cat o-out)"
rm set.h5
folder $'line\nend'
build 2 'line\nend: no pictures' -- $'line\nend'
cp text/a.jpg $'line\nend/\033[31m.jpg'
build 1 'line\nend/\x1B[31m.jpg: is not a' -- $'line\nend' --caption x
build 2 'no\nwhere' -- $'no\nwhere'

# Configurations ---------------------------------------------------------------------------------------------------------
top='model: {base: builtin:tiny}\ndataset: {path: set.h5}\n'
config() { # TEXT TEXT_OF_MESSAGE...: status 2 and the file's name
    printf '%b' "$1" >c.yaml
    bad 2 c.yaml "${@:2}" -- config check c.yaml
}
config "${top}trian: {steps: 5}" 'c.yaml:3:1: unknown key trian; did you mean train?'
config "${top}train: {stpes: 5}" 'c.yaml:3:9: unknown key train.stpes; did you mean train.steps?'
config "${top}train: {lr: 1e-4}" 'c.yaml:3:9: unknown key train.lr; did you mean optimizer.lr?'
config "${top}train: {max_train_steps: 5}" 'unknown key train.max_train_steps; here it is train.steps'
config "${top}method: {network_dim: 8}" 'here it is method.rank'
config "${top}optimizer: {type: AdamW8bit}" 'here it is optimizer.kind (adamw or adamw8bit)'
config "${top}learning_rate: 1e-4" 'unknown key learning_rate; here it is optimizer.lr'
bad 2 "train: --steps is another program's: here it is a key of the configuration, --set train.steps=VALUE" -- train c.yaml --steps 5
bad 2 'here it is a key of the configuration, --set optimizer.lr=VALUE' -- train c.yaml --learning_rate=1e-4
bad 2 'is gone on with by `atelier train CONFIG.yaml --resume auto`' -- train c.yaml --resume_from_checkpoint latest
config "${top}train.steps: 5" 'keys are nested'
config "${top}train: {steps: 5}\ntrain: {batch: 2}" 'c.yaml:4:1: the key train is given twice (first in line 3)'
config "${top}train: {steps: 5, steps: 6}" 'c.yaml:3:19: the key steps is given twice'
config "${top}train: 5" 'c.yaml:3:8: train wants keys below it'
config "${top}train: {steps: maybe}" 'c.yaml:3:16: train.steps wants a whole number' 'not "maybe"'
config "${top}train: {steps: [5]}" 'c.yaml:3:16: train.steps wants a whole number' 'not a list'
config "${top}loss: {debiased: 1}" 'loss.debiased wants true or false, not "1"'
config "${top}method: {text_encoder: 1}" 'method.text_encoder wants one of false, true, first, second, not "1"'
config "${top}train: {checkpointing: atuo}" 'wants true, false or auto, not "atuo"; did you mean auto?'
config "${top}train: {steps: 1_000}" 'not "1_000"; digits are written without _'
config "${top}train: {steps: 1e3}" 'not "1e3"; write it out in digits'
config "${top}train: {steps: 1,000}" 'c.yaml:3:18: unknown key train.000' 'written without commas'
config "${top}optimizer:\n  lr: 0,0001" 'c.yaml:4:7: optimizer.lr wants a number' 'with a point for decimals'
for number in 1_000 '1e−4' 10^-4 1/10000 1e '1 e-4' 1e-4f 0x1p-4 .inf nan -1e-4 11; do
    config "${top}optimizer:\n  lr: $number" 'c.yaml:4:7: optimizer.lr wants a number from 0 to 10' "not \"$number\""
done
for number in 1e-4 1.0e-4 1.e-4 0.0001 .0001 0.1e-3 100e-6 1E-4 +1e-4 1e-04 '"1e-4"' "'1e-4'" '"0.0001"'; do
    printf '%b' "${top}optimizer: {lr: $number}" >c.yaml
    good config show c.yaml
    grep -qx '  lr: 0.0001' o-out || fail "lr: $number is $(grep ' lr:' o-out)"
done
config "${top}train:\n\tsteps: 5" 'c.yaml:4:1: a tab in the indentation; YAML is indented with spaces'
config "${top}train:\n  steps: 5\n\tbatch: 2" 'c.yaml:5:1: a tab in the indentation'
for path in 'C:\\data\\sd15' 'C:\\Users\\me'; do # printf makes one of two
    config "${top}preview: {negative: \"$path\"}" 'in double quotes a backslash begins a code' 'single quotes'
done
config "${top}train: {steps: 5" 'c.yaml:4:1: not valid YAML' 'is every bracket closed?'
config "${top}preview: {prompts: [\"a]}" 'not valid YAML' 'every quote'
config "${top}preview: {prompts: [a: b]}" 'text that contains ": " goes in quotes'
config "${top}preview: {prompts: [*a]}" '*a names nothing' 'goes in quotes'
config "${top}train: {<<: {steps: 5}}" 'c.yaml:3:9: merge keys (<<) are not supported; write the keys out'
config "${top}train: &a {steps: *a}" 'stands inside of what it names'
config "${top}---\na: 1" 'a second document begins'
config 'model: {base: caf\xe9}' 'c.yaml:1:18: byte 0xE9 is not UTF-8; save the text as UTF-8'
config 'model: {base: a}\0' 'a control character (0x00); remove it'
config '' 'there is nothing in it'
config 'cat.h5' 'a configuration is made of keys (model: …)'
bomb='a: &a [x,x,x,x,x,x,x,x,x]\n'
for pair in ab bc cd de ef fg gh hi; do
    from=${pair:0:1} to=${pair:1:1}
    bomb+="$to: &$to [*$from,*$from,*$from,*$from,*$from,*$from,*$from,*$from,*$from]\n"
done
config "$bomb" 'more than 10000 values once aliases are expanded'
head -c 2000000 /dev/zero | tr '\0' ' ' >c.yaml
bad 2 'c.yaml: larger than' -- config check c.yaml
config '# of mine\n\n[general]\nenable_bucket = true' 'is TOML, as sd-scripts has it'
config 'learning_rate = 1e-4' 'is TOML, as sd-scripts has it'
config 'model: {base: a = b}\ndataset: {path: }' 'dataset.path'
printf '\xef\xbb\xbf%b' "${top}train: {steps: 7}\r\n" >c.yaml
good config show c.yaml
grep -qx '  steps: 7' o-out || fail "a configuration with byte order mark and CRLF: $(cat o-out)"
bad 2 'd.yaml: there is no such configuration' -- train d.yaml
bad 2 'c.yml: there is no such configuration; did you mean c.yaml?' -- train c.yml
bad 2 'empty: is a folder, a file is needed' -- train empty
printf '%b' "$top" >c.yaml
bad 2 '--set train.stps=4: unknown key train.stps; did you mean train.steps?' -- config check c.yaml --set train.stps=4
good config check c.yaml --set 'preview.prompts=[a]'
bad 2 'it is written KEY=VALUE' -- config check c.yaml --set train.steps
bad 2 'the value is not UTF-8' -- config check c.yaml --set $'preview.negative=\xff'

# Models -----------------------------------------------------------------------------------------------------------------
model() { # PART FILE: a fresh copy of the tiny model, in m; its FILE is then changed by the caller
    rm -rf m
    cp -r "$golden/models/sd1" m
}
sample() { # STATUS TEXT...: drawing with m and training on it fail in the same way
    bad "$@" -- sample --model m --prompt x --steps 1 --out x.png
    bad "$@" -- train run.yaml --plan
}
caption data 'a cat'
good data build data --out data.h5
cat >run.yaml <<'YAML'
model: {base: m, dtype: f32}
dataset: {path: data.h5}
train: {steps: 1, batch: 1, resolution: 32, threads: 1}
output: {dir: run}
YAML
weights=unet/diffusion_pytorch_model.safetensors
bad 2 'nowhere: there is no such file or folder' 'a model is a diffusers folder' -- sample --model nowhere --prompt x
bad 2 'empty: has no unet/config.json (a model is a diffusers folder' -- sample --model empty --prompt x
bad 2 'builtin:none: not found' 'were tried' -- sample --model builtin:none --prompt x
model; rm m/$weights
sample 2 'm/unet: has no diffusion_pytorch_model.safetensors'
model; head -c 1000 "$golden/models/sd1/$weights" >m/$weights
sample 1 "m/$weights: header of 22240 bytes ends after the file's 1000 bytes (file truncated?)" 'fetch or write the file again'
model; head -c 50000 "$golden/models/sd1/$weights" >m/$weights
sample 1 "m/$weights: tensor " 'do not lie in the file' 'fetch or write the file again'
model; echo '<!DOCTYPE html><html>404</html>' >m/$weights
sample 2 "m/$weights: is a web page, not what was to be downloaded"
model; cp m/vae/diffusion_pytorch_model.safetensors m/$weights
sample 1 'm/unet: tensor conv_in.weight is missing; do its weights and its config.json belong together?'
model; cp "$golden/models/sd2/$weights" m/$weights
sample 1 'm/unet: tensor ' ' is (8,24) bf16, but the model' 'asks for (8,16) f32; do its weights'
model; echo '{' >m/unet/config.json
sample 2 'm/unet/config.json: not valid JSON: ' 'at line 2'
model; sed -i 's/"norm_num_groups": 4/"norm_num_groups": 3/' m/unet/config.json
sample 2 'm/unet/config.json: 8 channels do not split into norm_num_groups 3'
model; rm m/vae/config.json
sample 2 'm: has no VAE (vae/config.json); give one with --vae'
model; rm m/tokenizer/merges.txt
sample 2 'm/tokenizer/merges.txt: there is no such file'
model; echo 'a b c' >>m/tokenizer/merges.txt
sample 2 'm/tokenizer/merges.txt: merge ' 'not `a b c`'
model; echo '{"a": 99999999999}' >m/tokenizer/vocab.json
sample 2 'm/tokenizer: token `a` has no valid id'
model; echo '{"prediction_type": "x"}' >m/scheduler/scheduler_config.json
sample 2 'm/scheduler/scheduler_config.json: prediction_type: "x" is not supported'
model
printf 'PK\003\004pickled' >model.ckpt
bad 1 'model.ckpt: is a zip archive without its directory' 'fetch or write it again' -- sample --model model.ckpt --prompt x
draw() { # STATUS TEXT... -- OPTION...
    local head=()
    while [ "$1" != -- ]; do
        head+=("$1")
        shift
    done
    bad "${head[@]}" -- sample --model m --prompt x --steps 1 --out x.png "${@:2}"
}
printf 'PK\003\004' >lora.pt; head -c 3000 /dev/zero >>lora.pt
printf '\200\004\225pickled' >lora.bin
for option in --lora --model; do
    draw 1 "lora.pt: is a zip archive without its directory" -- $option lora.pt
    draw 2 "lora.bin: is a pickle that torch.save did not write" -- $option lora.bin
done
runs=$golden/torch/runs.ckpt
for option in --lora --model; do
    draw 2 "runs.ckpt: byte " 'asks for posix.system, which is not allowed' -- $option "$runs"
done
draw 2 'kohya.safetensors: is a LoRA, not a model; give it with --lora' -- --model "$golden/lora/kohya.safetensors"
draw 2 'm/unet: is one part of a diffusers model; give the folder that it lies in' -- --model m/unet
draw 2 'm: the folder holds neither adapter_model.safetensors nor' -- --lora m
mkdir -p lora-run && : >lora-run/lora.safetensors
bad 2 'lora-run: is the folder of a run that made a LoRA; give it with --lora' -- sample --model lora-run --prompt x
mkdir -p full-run/model && : >full-run/model/model_index.json
bad 2 'full-run: is a run' 'the model that it made is the folder model in it' -- sample --model full-run --prompt x
draw 2 "$weights: is not a LoRA: no key names a low-rank pair" '--model' -- --lora m/$weights
draw 2 'an empty name is no .safetensors file' -- --lora ''
draw 2 'an empty name is no file or folder' -- --model ''
mkfifo lora.fifo # nothing waits for it
for option in --lora --model; do
    draw 2 'lora.fifo: is no ordinary file but a device or a pipe' -- $option lora.fifo
done
tensors() { # FILE KEY...: a safetensors file with these names and a number each
    local json='' at=0 key
    for key in "${@:2}"; do
        json+="${json:+,}\"$key\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[$at,$((at + 4))]}"
        at=$((at + 4))
    done
    json="{$json}"
    {
        printf '%b' "\\x$(printf %02x $((${#json} % 256)))\\x$(printf %02x $((${#json} / 256)))\\0\\0\\0\\0\\0\\0"
        printf %s "$json"
        head -c $at /dev/zero
    } >"$1"
}
other() { # KEY WHAT: a single file with this key is recognised, drawn with and trained on
    tensors other.safetensors "$1" model.diffusion_model.input_blocks.0.0.weight
    draw 2 "other.safetensors: is $2" -- --model other.safetensors
    bad 2 "other.safetensors: is $2" -- train run.yaml --set model.base=other.safetensors
}
supported='; Stable Diffusion 1.x, 2.x and XL are supported'
other conditioner.embedders.0.model.x "SDXL's refiner, which only finishes what another model has drawn"
other edm_mean "a model with a noise schedule of its own (EDM, as Playground 2.5 has it)$supported"
other edm_vpred.sigma_max "a model with a noise schedule of its own (EDM, as CosXL has it)$supported"
other model.diffusion_model.joint_blocks.0.x "a Stable Diffusion 3 model$supported"
other model.diffusion_model.double_blocks.0.x "a Flux model$supported"
other_lora() { # KEY TEXT...: a LoRA with this key does not fit, and the message says for what it is
    tensors other.safetensors "$1"
    draw 2 other.safetensors "${@:2}" -- --lora other.safetensors
}
other_lora lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight 'this LoRA is for SDXL, as sd-scripts (kohya_ss) and OneTrainer write it'
other_lora lora_unet_input_blocks_4_1_proj_in.lora_down.weight "this LoRA is for SDXL, in ldm's names, as sd-scripts (kohya_ss) writes it"
other_lora text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight 'this LoRA is for SDXL'
other_lora transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight 'this LoRA is for Flux or Stable Diffusion 3'
other_lora lora_unet_down_blocks_0_attentions_0_proj_in.oft_blocks 'OFT is not supported'
other_lora emb_params 'is not a LoRA'
tensors other.safetensors
draw 2 'there is no LoRA in it' -- --lora other.safetensors
for option in '--steps -1' '--steps 1.5' '--cfg nan' '--cfg inf' '--seed -1' '--width -8' '--batch 0' '--threads -1'; do
    # shellcheck disable=SC2086
    draw 2 "${option% *}" -- $option
done
bad 2 '--prompt: text is not valid UTF-8: byte 0xff at offset 1' -- sample --model m --prompt $'x\xff' --steps 1 --out x.png

lora() { # STATUS FILE TEXT...
    bad "$1" "${@:3}" -- sample --model m --prompt x --steps 1 --out x.png --lora "$2"
    bad "$1" "${@:3}" -- lora info "$2"
}
lora 2 nowhere.safetensors 'nowhere.safetensors: there is no such .safetensors file'
head -c 20000 "$golden/lora/kohya.safetensors" >cut.safetensors
lora 1 cut.safetensors 'cut.safetensors: header of ' '(file truncated?); fetch or write the file again'
header() { # NAME TEXT...: a header from the corpus that is wrong in this way
    lora 1 "$corpus/safetensors/$1" "safetensors/$1: " "${@:2}"
}
header overlap 'tensor b at byte 114 overlaps the one before it; fetch or write the file again'
header gap 'tensor b at byte 115 leaves a gap before it'
header huge-shape 'its shape is not a list of sizes, or too large'
header negative 'its shape is not a list of sizes, or too large'
header past-the-end 'data_offsets [0,4] do not lie in the file'
header backwards 'data_offsets [3,0] do not lie in the file'
header twice 'duplicate object key'
header extra-key 'needs dtype, shape and data_offsets, and nothing else'
header metadata-number '__metadata__: n is not a string'
header long-header 'is not a safetensors file'
header deep 'tensor a: needs dtype'
bad 1 'was this made for another model?' -- \
    sample --model "$golden/models/sd2" --prompt x --steps 1 --out x.png --lora "$golden/lora/kohya.safetensors"

# Datasets ---------------------------------------------------------------------------------------------------------------
dataset() { # STATUS FILE TEXT...: looked at and trained on
    bad "$1" "${@:3}" -- data info "$2"
    bad "$1" "${@:3}" -- train run.yaml --set "dataset.path=$2"
}
size=$(stat -c %s data.h5)
dataset 2 none.h5 'none.h5: there is no such '
bad 2 'date.h5: there is no such HDF5 file; did you mean data.h5?' -- data info date.h5
bad 2 'nowhere/a/b.h5: there is no such HDF5 file: nowhere is not there' -- data info nowhere/a/b.h5
bad 2 'dato: there is no such folder of pictures or .h5 file; did you mean' '/data?' -- \
    train run.yaml --set dataset.path=dato
bad 2 'dato: there is no such file or folder; did you mean data?' -- data lint dato
folder sub; sed 's/base: m/base: builtin:tiny/' run.yaml >sub/run.yaml
bad 2 'sub/data: there is no such folder' "(\`data\` starts at the configuration's folder, " '/sub; for the one in' -- \
    train sub/run.yaml --set dataset.path=data
bad 2 'sub/m: there is no such file or folder (a model is a' "(\`m\` starts at the configuration's folder" -- \
    train sub/run.yaml --set model.base=m
bad 2 'model.vae: ' 'sub/m: there is no such folder or file' "(\`m\` starts at" -- \
    train sub/run.yaml --set dataset.path=../data --set model.vae=m
bad 2 'data: has no config.json' -- train run.yaml --set model.vae=data
bad 2 'data.h5: is an HDF5 file' -- train run.yaml --set model.vae=data.h5
printf 'PK\003\004zipped' >cats.zip
bad 1 'cats.zip: is a zip archive, not an HDF5 file; unpack it' -- train run.yaml --set dataset.path=cats.zip
bad 2 'cats.zip: is not a folder' -- data build cats.zip --out set.h5
mkfifo pipe # nothing waits for it
dataset 2 pipe 'pipe: is no ordinary file but a device or a pipe'
dataset 2 /dev/zero '/dev/zero: is no ordinary file'
ln -s loop.h5 loop.h5
dataset 2 loop.h5 'loop.h5: ' ' symbolic links'
ln -s gone.h5 link.h5
dataset 2 link.h5 'link.h5: is a link to what is not there'
dataset 1 c.yaml 'c.yaml: is not an HDF5 file'
for bytes in 9 100 1000 $((size - 1)); do
    head -c "$bytes" data.h5 >cut.h5
    dataset 1 cut.h5 'cut.h5: is a broken HDF5 file: ' 'build or copy it again'
done
dataset 1 "$corpus/dataset/cache" 'is an HDF5 file, but no dataset of Atelier'
damage() { # FILE OFFSET: four bytes there become 0xFF
    cp "$1" cut.h5
    printf '\377\377\377\377' | dd of=cut.h5 bs=1 seek="$2" conv=notrunc status=none
}
for place in data.h5:8 data.h5:13 data.h5:40 "$corpus"/dataset/h5py:{8,13,40,64}; do
    damage "${place%:*}" "${place##*:}"
    dataset 1 cut.h5 'cut.h5: is a broken HDF5 file: '
done
for dir in data data/run ./data; do # its previews would be the next run's pictures
    bad 2 "output.dir $PWD/data" "lies in the dataset's folder" -- \
        train run.yaml --set dataset.path=data --set output.dir=$dir
done
bad 2 '--resume nowhere: ' 'there is no such folder' -- train run.yaml --resume nowhere
bad 2 '--resume run.yaml: is a file' -- train run.yaml --resume run.yaml
bad 2 '--resume data: there is no run in this folder' -- train run.yaml --resume data
bad 2 'empty: no pictures' -- train run.yaml --set dataset.path=empty
echo x >cut/a.txt
bad 1 'cut/a.jpg: JPEG data ends early' -- train run.yaml --set dataset.path=cut
bad 1 'plain: 2 of 2 pictures have no caption' -- train run.yaml --set dataset.path=plain

# Where nothing can be written -------------------------------------------------------------------------------------------
echo text >file
bad 2 'file: is a file where a folder is needed' -- train run.yaml --set output.dir=file
bad 2 'file: is a file where a folder is needed' -- data build data --out file/set.h5
bad 2 '/proc/nothing: folder cannot be made' -- train run.yaml --set output.dir=/proc/nothing
bad 2 '/proc/set.h5: cannot be written' -- data build data --out /proc/set.h5
for name in data/a.jpg c.yaml; do # a wrong name costs no picture
    bad 2 "$name: is there already and no dataset that was built here" -- data build data --out $name
done
cmp -s data/a.jpg "$picture" || fail "data build --out replaced a picture"
bad 2 'nowhere: there is no such file or folder' -- data build data --out set.h5 --cache latents --model nowhere
bad 2 '--resolution 33 is not a multiple of 4; take 32 or 36' -- \
    data build data --out set.h5 --cache latents --model m --resolution 33
bad 2 'empty: is a folder, a file name is needed' -- data build data --out empty
bad 2 '--out: /proc/x.png: cannot be written' -- sample --model m --prompt x --steps 1 --out /proc/x.png
# a device is not replaced by a file
ln -s /dev/full full.png
ln -s /dev/full full.h5
bad 2 'full.png: is no ordinary file; choose another name' -- sample --model m --prompt x --steps 1 --out full.png
bad 2 'full.h5: is no ordinary file; choose another name' -- data build data --out full.h5
[ -c /dev/full ] || fail "/dev/full is gone"
if [ "$(id -u)" -ne 0 ]; then
    mkdir locked
    chmod a-w locked
    bad 2 'cannot be written: Permission denied' -- data build data --out locked/set.h5
    bad 2 'folder cannot be made: Permission denied' -- train run.yaml --set output.dir=locked/run
fi
for command in "data info data.h5" "config show c.yaml" "model info m" "doctor"; do
    # shellcheck disable=SC2086
    "$atelier" $command >/dev/full 2>o-err && fail "atelier $command: a full disk is no success"
    grep -q 'cannot write to standard output' o-err || fail "atelier $command >/dev/full: $(cat o-err)"
done

finish "all bad input is answered"
