#!/bin/bash
# What is told before the first step, against what comes: memory of each mode, refusals of what does not fit, the trial,
# pictures that have no caption or cannot be read.
. "$(dirname "$0")/common" "$1"
number() { grep -o "\"$1\": *[0-9]*" "$2" | tail -1 | grep -o '[0-9]*$'; }

pictures "$work/pictures" banana bell
cat > "$work/run.yaml" <<YAML
model: {base: builtin:tiny, dtype: f32}
dataset: {path: pictures}
method: {kind: lora, rank: 8}
train: {steps: 1, batch: 4, resolution: 64, threads: 1}
output: {dir: run}
YAML
train() { expect "$1" "$atelier" train "$work/run.yaml" "${@:2}"; }
# Sanitizers keep memory of their own, which nobody can tell beforehand.
library=$(find "$(dirname "$atelier")" -name 'libatelier.so' | head -1)
measured=yes
if ldd "$library" | grep -q 'lib[at]san'; then measured=no; fi

# compare WHAT TOLD USED: within 5 %
compare() {
    if [ $measured = yes ] && [ $(($2 * 100)) -lt $(($3 * 95)) -o $(($2 * 100)) -gt $(($3 * 105)) ]; then
        fail "$1: told $2 bytes, used $3"
    fi
}

# modes ISA DTYPE MODE…: each takes what the plan says, within 5 %, and the same bytes come out.
modes() {
    local isa=$1 dtype=$2 before=0 first=$3 mode told table used weights
    [ -z "$isa" ] || export ATELIER_ISA=$isa
    for mode in "${@:3}"; do
        train 0 --set model.dtype="$dtype" --set train.mode="$mode" --plan --no-time --json
        told=$(number peak_bytes "$work/out")
        table=$(number "$mode" "$work/out")
        [ $((table * 100)) -gt $((told * 98)) ] && [ $((table * 100)) -lt $((told * 102)) ] ||
            fail "mode $mode: the table tells $table bytes, the plan itself $told"
        [ "$told" -gt $before ] || fail "$mode is not told to take more than the mode before it"
        before=$told
        train 0 --set model.dtype="$dtype" --set train.mode="$mode" --set output.dir="$isa-$dtype-$mode"
        used=$(number peak_bytes "$work/$isa-$dtype-$mode/log.jsonl")
        compare "mode $mode, ${isa:-all that the processor has}, $dtype" "$told" "$used"
        weights=checkpoints/step-000001/weights.safetensors
        cmp "$work/$isa-$dtype-$first/$weights" "$work/$isa-$dtype-$mode/$weights" || fail "mode $mode changes the result"
    done
}
# What the libraries take depends on the processor; as a lesser one they take less than half.
(modes "" f32 minimal balanced speed)
(modes "" bf16 minimal speed)
(modes avx2 f32 minimal speed)
(modes avx2 bf16 minimal speed)
(modes baseline f32 minimal)
# A whole model's weights move into blocks when it is loaded; what they leave is given back.
sed -i.lora 's/^method:.*/method: {kind: full}/' "$work/run.yaml"
train 0 --plan --no-time --json
told=$(number peak_bytes "$work/out")
train 0 --set output.dir=full
compare "a whole model" "$told" "$(number peak_bytes "$work/full/log.jsonl")"
# Weights that move with the backward pass keep no gradients: of 4 parts f32 a fourth less.
after=$told
train 0 --plan --no-time --json --set train.fused_backward=true
told=$(number peak_bytes "$work/out")
weights=$(($(number trained_parameters "$work/out") * 4))
[ $((after - told)) -gt $((weights * 9 / 10)) ] || fail "fused updates are told to leave out $((after - told)) of $weights bytes"
train 0 --set train.fused_backward=true --set output.dir=fused
compare "a whole model with fused updates" "$told" "$(number peak_bytes "$work/fused/log.jsonl")"
mv "$work/run.yaml.lora" "$work/run.yaml"

# Nothing of the pictures is written anywhere, with the time and without.
export TMPDIR=$work/nowhere
train 0 --plan --no-time
train 0 --plan
unset TMPDIR
[ "$(ls -A "$work")" = "$(printf '%s\n' $(ls -A "$work"))" ] && [ ! -e "$work/nowhere" ] || fail "--plan wrote something"
train 0 --plan --no-time
for mode in minimal balanced speed; do
    grep -q "^modes .*$mode [0-9]* MB" "$work/out" || fail "--plan does not tell mode $mode"
done

# A large PNG, white, 4,000 pixels a side: it is never whole in memory, and is not told to be.
mkdir "$work/large-png"
echo white > "$work/large-png/a.txt"
base64 -d <<'B64' | gunzip > "$work/large-png/a.png"
H4sIAAAAAAACA+sM8HPn5ZLiYmBg4PX0cAliYOBfAMKMQAGGYyz31jMwiMd4ujiGVNx6e9EQKMpzyODPbDZJ62leGUF7tcUcxEscsaJ2vRdNWB
Ff7AVWrEh21wJurMgKhxXiJS9G7R+1f9T+UftH7R+1f9T+UftH7R+1f9T+UftH7R+1f9T+UftH7R+1f9T+UftH7R+1fxDaX3qXYd6qw12/J0yS
AI23e7r6uaxzSmgCAEVAce6VFwAA
B64
train 0 --set dataset.path=large-png --plan --no-time --json
told=$(number peak_bytes "$work/out")
train 0 --set dataset.path=large-png --set output.dir=png
used=$(number peak_bytes "$work/png/log.jsonl")
compare "a large PNG" "$told" "$used"

# The largest part is named, with what makes it less, which it does.
# largest WORDS SETTING OPTION…: named so, and with the setting that it names the run needs less
largest() {
    local words=$1 setting=$2 before
    train 0 --plan --no-time --json "${@:3}"
    before=$(number peak_bytes "$work/out")
    grep -A4 '"largest"' "$work/out" | grep -q "\"part\": \"$words" || fail "the largest part is not told to be \"$words\""
    train 0 --plan --no-time "${@:3}"
    grep -q "^ *the largest part: $words.*${setting%%=*}" "$work/out" || fail "${setting%%=*} is not named"
    # shellcheck disable=SC2086
    train 0 --plan --no-time --json "${@:3}" ${setting#*= }
    [ "$(number peak_bytes "$work/out")" -lt "$before" ] || fail "$setting makes nothing less"
}
drawn="--set preview.every=1 --set preview.prompts=[a] --set preview.width=512 --set preview.height=512"
# shellcheck disable=SC2086
largest "drawing previews of 512×512 pixels" "preview.width and preview.height= --set preview.width=128 --set preview.height=128" $drawn
largest "the activations of a training step" "train.mode: balanced= --set train.mode=balanced" --set train.batch=16 --set train.mode=speed
largest "the activations of a training step" "train.batch= --set train.batch=4" --set train.batch=32 --set train.mode=balanced

# What cannot fit any machine is refused before anything is loaded or written, with settings that would fit.
train 2 --set train.batch=4096 --set train.resolution=1024 --set output.dir=large
grep -q "this run needs about .* GB of memory" "$work/err" || fail "the refusal tells no figure"
way=$(grep -o -- '--set train.*:' "$work/err" | head -1 | tr -d :)
[ -n "$way" ] || fail "the refusal tells no way that fits"
[ ! -e "$work/large" ] || fail "a refused run left a folder"
# shellcheck disable=SC2086
train 0 --set train.resolution=1024 --set train.batch=4096 $way --plan --no-time
train 2 --set output.save_every=1 --set output.keep=1000000 --set train.steps=900000000 --set output.dir=large
grep -q "of disk" "$work/err" || fail "disk that is too small is not told of"
[ ! -e "$work/large" ] || fail "a run refused for its disk left a folder"

# What `model info --fits` says of a step is what the plan of such a run says.
expect 0 "$atelier" model info builtin:tiny --fits --json
fits=$(grep -A4 '"a step of a LoRA"' "$work/out" | grep -o '"takes_bytes": [0-9]*' | head -1 | grep -o '[0-9]*$')
grep -A2 '"a step of a LoRA"' "$work/out" | grep -q '"with": "train.mode=speed"' || fail "--fits does not take the fastest way"
sed 's/^method:.*/method: {kind: lora}/; s/^train:.*/train: {mode: speed}/; s/f32/bf16/' "$work/run.yaml" > "$work/plain.yaml"
expect 0 "$atelier" train "$work/plain.yaml" --plan --no-time --json
told=$(number peak_bytes "$work/out")
[ $((fits * 10)) -gt $((told * 9)) ] && [ $((fits * 10)) -lt $((told * 11)) ] ||
    fail "model info --fits: $fits bytes, where --plan tells $told"

# The time is measured, and nothing is kept of it.
train 0 --plan --json --set output.dir=timed
for part in total step steps start caching saving; do
    grep -A9 '"seconds"' "$work/out" | grep -q "\"$part\": [0-9.]" || fail "--plan --json lacks the seconds of $part"
done
[ ! -e "$work/timed" ] || fail "--plan made the run's folder"
[ -z "$(find "$work" -maxdepth 1 -name '.atelier*')" ] || fail "--plan left a trial behind"
train 2 --no-time

# Before the first step: the run is tried, and told.
train 0 --set output.dir=tried
for line in "^trained .*frozen" "^tried .*written and read back" "^time left .*a step"; do
    grep -q "$line" "$work/err" || fail "the run does not say: $line"
done
[ ! -e "$work/tried/.trial" ] || fail "the trial is left behind"
# Files that cannot become large enough (a disk quota): said before anything is trained.
status=0
(trap '' XFSZ; ulimit -f 300; exec "$atelier" train "$work/run.yaml" --set output.dir=quota) \
    > "$work/out" 2> "$work/err" || status=$?
[ $status = 1 ] || fail "status $status, not 1, where files cannot be written"
grep -q "trying what the run will write" "$work/err" || fail "it does not say what it was about"
[ ! -s "$work/quota/log.jsonl" ] || fail "steps were made though nothing can be saved"
[ ! -e "$work/quota/.trial" ] || fail "the failed trial is left behind"

# A picture without a caption, or that cannot be read, is named and stops the run, unless told otherwise.
mkdir "$work/bare"
cp "$here/data/examples/banana.jpg" "$work/bare"
plan_of() { train "$1" --plan --no-time --set dataset.path="$2" "${@:3}"; }
plan_of 1 bare
grep -q "banana.jpg" "$work/err" || fail "the picture without a caption is not named"
plan_of 0 bare --set "dataset.caption.missing=a thing"
expect 0 "$atelier" data build "$work/bare" --caption "" --out "$work/bare.h5"
plan_of 2 bare.h5
grep -q "banana.jpg.*dataset.caption.missing" "$work/err" || fail "the picture without a caption is not named"
plan_of 0 bare.h5 --set "dataset.caption.missing=a thing"
grep -q '1 of 1 picture has no caption and gets "a thing".*banana.jpg' "$work/err" || fail "what stands for no caption is not told"
# What was taken from names of folders is told; a date is asked about.
mkdir -p "$work/sorted/10_a toy" "$work/sorted/2024_toys"
cp "$here/data/examples/banana.jpg" "$work/sorted/10_a toy"
plan_of 0 sorted
grep -q "  10_a toy: 10 repeats of each of 1 picture, and the caption of 1" "$work/out" || fail "repeats are not told"
cp "$here/data/examples/bell.jpg" "$work/sorted/2024_toys"
plan_of 1 sorted
grep -q "2024_toys: 2024 repeats.*dataset.folder_names" "$work/err" || fail "a date is not asked about"
plan_of 0 sorted --set dataset.folder_names=plain --set "dataset.caption.missing=a thing"
grep -q "2 of 2 pictures have no caption of their own and get \"a thing\": 10_a toy/banana.jpg" "$work/err" || fail "no caption"
plan_of 2 bare.h5 --set dataset.folder_names=plain
grep -q "dataset.folder_names: says how a folder is built" "$work/err" || fail "a key that does nothing is taken"
echo "no picture" > "$work/pictures/bad.jpg"
echo "a caption" > "$work/pictures/bad.txt"
plan_of 1 pictures
grep -q "bad.jpg.*dataset.skip_bad" "$work/err" || fail "the bad picture is not named"
plan_of 0 pictures --set dataset.skip_bad=true
grep -q "left out: .*bad.jpg" "$work/err" || fail "the picture left out is not named"
