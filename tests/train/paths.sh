#!/bin/bash
# Words in paths, and what a refused run leaves: ~ is the home folder, other words that shells know are refused, none of
# them becomes a folder's name; a run that is refused leaves no folder, no parents of one and no file behind.
. "$(dirname "$0")/common" "$1"

mkdir "$work/home" "$work/elsewhere"
pictures "$work/pictures" banana bell
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures}
method: {kind: lora, rank: 2}
train: {steps: 1, resolution: 32, threads: 1}
output: {dir: run}
YAML
export HOME=$work/home
cd "$work/elsewhere" # what is relative on the command line would be made here
train() { expect "$1" "$atelier" train "$work/run.yaml" "${@:2}"; }
listing() { (cd "$work" && find . | grep -v '^./\(out\|err\)$' | LC_ALL=C sort); }
# refused TEXT COMMAND…: status 2, the text, and nothing is there that was not before
refused() {
    local before
    before=$(listing)
    expect 2 "${@:2}"
    grep -qF -- "$1" "$work/err" || fail "\"$1\" is not said: ${*:2}"
    [ "$before" = "$(listing)" ] || fail "left behind by ${*:2}: $(diff <(echo "$before") <(listing))"
}
run=("$atelier" train "$work/run.yaml")

# The configuration's paths.
train 0 --set 'output.dir=~/runs/a'
[ -s "$work/home/runs/a/lora.safetensors" ] || fail "~/ is not the home folder"
words='is a word that shells put something else for'
for path in '~somebody/run' '$HOME/run' 'a/$USER/run' '${HOME}/run' "$work/\$HOME/run"; do
    refused "output.dir: $path" "${run[@]}" --set "output.dir=$path"
    refused "$words" "${run[@]}" --set "output.dir=$path"
done
refused "prior.path: \$HOME/class: \$HOME $words" "${run[@]}" --plan --no-time --set prior.prompt=x --set 'prior.path=$HOME/class'
refused "dataset.path: ~somebody/pictures: ~somebody $words" "${run[@]}" --set 'dataset.path=~somebody/pictures'
(unset HOME; refused "HOME is not set" "${run[@]}" --set 'output.dir=~/run')
(export HOME=; refused "HOME is not set" "${run[@]}" --set 'output.dir="~"')
# A folder that is called so.
mkdir "$work/\$HOME"
train 0 --set 'output.dir=$HOME/run'
[ -s "$work/\$HOME/run/lora.safetensors" ] || fail "a folder that is there is not taken"

# Options.
refused "--trace" "${run[@]}" --trace='~/trace'
sample=("$atelier" sample --model "$here/tests/golden/models/sd1" --prompt x --steps 1)
refused "$words" "${sample[@]}" --out='~/x.png'
refused "$words" "${sample[@]}" --out='$HOME/'
refused "$words" "${sample[@]}" --out x.png --save-latents='$HOME/x.safetensors'
refused "$words" "${sample[@]}" --out x.png --trace='~/trace'
refused "$words" "$atelier" data build "$work/pictures" --out='~/x.h5'

# Runs that are refused, early and late.
refused "no such" "${run[@]}" --set output.dir=a/b/c --set model.base=nowhere
refused "no such" "${run[@]}" --set output.dir=a/b/c --set dataset.path=nowhere
mkdir -p "$work/there"
refused "no such" "${run[@]}" --set output.dir=there --set dataset.path=nowhere
refused "no such" "${run[@]}" --set output.dir=there/b/c --set dataset.path=nowhere

# A folder for class pictures that cannot be written to, here because another one has the name: before any is drawn.
mkdir -p "$work/class/class-00000.txt"
train 2 --set prior.path=class --set "prior.prompt=a thing" --set prior.pictures=2 --set prior.steps=2 --set output.dir=prior
grep -q "prior.path: .*class-00000.txt: is a folder" "$work/err" || fail "the folder in the way is not named"
! grep -q "^class pictures " "$work/err" || fail "a class picture was drawn for nothing"
