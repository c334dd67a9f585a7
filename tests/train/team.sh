#!/bin/bash
# Processes that train together: the same bytes however many they are, in every kind of run; each that does not fit is
# refused by name before the first step; what process 0 cannot do ends all. Breaks if one of them computes, reads or writes
# something that the others do not know of.
#
#     team.sh ATELIER
. "$(dirname "$0")/common" "$1"
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 # see processes.sh
unset RANK WORLD_SIZE ATELIER_TOKEN

mkdir "$work/pictures" "$work/others"
for name in banana bell bicycle butterfly cactus carrot; do
    cp "$here/data/examples/$name.jpg" "$here/data/examples/$name.txt" "$work/pictures"
done
cp "$work"/pictures/b* "$work/others"
cp -r "$here/tests/golden/models/sd1" "$work/model"
cat >"$work/run.yaml" <<YAML
model: {base: $work/model, dtype: f32}
dataset: {path: $work/pictures, caption: {dropout: 0.1}, augment: {flip: true}}
method: {kind: lora, rank: 4}
train: {steps: 4, batch: 1, accumulate: 5, resolution: 32, threads: 1, timeout: 60}
optimizer: {lr: 1.0e-3}
output: {save_every: 2, dir: $work/none}
YAML

train() { # DIR WORD…
    "$atelier" train "$work/run.yaml" --set output.dir="$work/$1" "${@:2}"
}
says() { grep -q -- "$1" "$work/err" || fail "\"$1\" is not said"; }
sums_of() { # DIR: of everything that a run makes and that holds no times
    (cd "$work/$1" && find . -name '*.safetensors' -o -name '*.png' -o -name '*.cache.h5' | sort | xargs sha256sum)
}

# Alone and together ------------------------------------------------------------------------------------------------

same_for() { # NAME WORD…
    local count
    expect 0 train "$1-1" "${@:2}"
    for count in 2 3 4; do
        expect 0 train "$1-$count" --processes $count "${@:2}"
        cmp <(sums_of "$1-1") <(sums_of "$1-$count") || fail "$1: $count processes make other files than one"
    done
}
pictures='validation.share=0.34 validation.every=2 preview.every=2 preview.steps=2 preview.prompts=["a","b","c"]'
extra=()
for word in $pictures; do extra+=(--set "$word"); done
same_for plain "${extra[@]}"
same_for bf16 --set model.dtype=bf16
same_for whole --set method.kind=full --set train.reproducible=exact --set train.ema=0.9 --set method.rank=null 2>/dev/null ||
    same_for whole --set method.kind=full --set train.reproducible=exact
