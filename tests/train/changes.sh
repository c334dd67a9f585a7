#!/bin/bash
# What happens to the pictures between two sessions of a run is seen, by their bytes, and told with counts: nothing, and the
# run's own copy is used; something, and it is refused, or with --allow-changes taken as it is now. Breaks if a run goes on
# with other pictures than those in the folder without a word.
. "$(dirname "$0")/common" "$1"

pictures "$work/pictures" banana bell bicycle butterfly
cat > "$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: pictures}
method: {kind: lora, rank: 2}
train: {steps: 4, resolution: 32, threads: 1}
optimizer: {lr: 1.0e-3, schedule: constant}
output: {dir: run, save_every: 2}
YAML
train() { expect "$1" "$atelier" train "$work/run.yaml" "${@:2}"; }
says() { grep -qF -- "$1" "$work/err" || fail "\"$1\" is not said"; }
train 0 --set train.steps=2
cp -r "$work/pictures" "$work/then"; cp -r "$work/run" "$work/begun"
# again: the run and its pictures of before
again() { rm -rf "$work/run" "$work/pictures"; cp -rp "$work/then" "$work/pictures"; cp -r "$work/begun" "$work/run"; }

again
train 0 --resume auto
says "$work/pictures: the run's own copy of its 4 pictures is used again, nothing has changed since it was made: $work/run/pictures.h5"
mv "$work/run" "$work/whole"

# changed WHAT...: the refusal, and with --allow-changes what is made of it
changed() {
    train 2 --resume auto
    says "$work/pictures: since the run began $1"
    says "--allow-changes"
    cmp "$work/begun/pictures.h5" "$work/run/pictures.h5" || fail "a refused run has another copy"
    train 0 --resume auto --allow-changes
    says "its copy of them is built anew"
    ! cmp -s "$work/begun/pictures.h5" "$work/run/pictures.h5" || fail "the old copy is used"
}
again # another picture of the same size and time
size=$(($(wc -c < "$here/data/examples/bell.jpg") - 1))
cp "$here/data/examples/bell.jpg" "$work/pictures/bell.jpg"
printf '\x01' | dd of="$work/pictures/bell.jpg" bs=1 seek=$((size - 400)) conv=notrunc status=none
touch -r "$work/then/bell.jpg" "$work/pictures/bell.jpg"
changed "1 picture was edited, 3 are as they were"
again
echo "another text" > "$work/pictures/bell.txt"
changed "1 caption was changed, 3 are as they were"
again
cp "$here/data/examples/carrot.jpg" "$here/data/examples/carrot.txt" "$work/pictures"
rm "$work/pictures/bell.jpg" "$work/pictures/bell.txt"
changed "1 picture was added, 1 picture is gone, 3 are as they were"
says "of 4 pictures"

# The folder is gone: the run has its copy. A picture that was left out is no new one.
again
rm -r "$work/pictures"
train 0 --resume auto
says "$work/pictures: is not there any more; the run's own copy of its pictures is used"
cmp "$work/whole/lora.safetensors" "$work/run/lora.safetensors" || fail "without the folder another result"
again
rm -r "$work/run"
echo "no picture" > "$work/pictures/bad.jpg"; echo "bad" > "$work/pictures/bad.txt"
train 0 --set dataset.skip_bad=true --set train.steps=2
train 0 --set dataset.skip_bad=true --resume auto
says "its 4 pictures is used again"

# A class picture that was edited changes nothing of the run, which has its own copy, and is told.
prior="--set prior.path=class --set prior.prompt=fruit --set prior.pictures=2 --set prior.steps=1"
rm -rf "$work/run"; cp -r "$work/then/." "$work/pictures"; rm -f "$work/pictures/bad".*
train 0 $prior
mv "$work/run" "$work/whole"-class
train 0 $prior --set train.steps=2
echo >> "$work/class/class-00001.png"
train 0 $prior --resume auto
says "$work/class: since the run began 1 of the class pictures was edited or removed; the run's own copy of them is used"
cmp "$work/whole-class/lora.safetensors" "$work/run/lora.safetensors" || fail "an edited class picture changes the run"

# A dataset file with 40 other bytes in a picture is damaged, for `data lint` and for a run.
expect 0 "$atelier" data build "$work/then" --out "$work/set.h5"
at=$(LC_ALL=C grep -aobF "$(printf '\xFF\xD8\xFF')" "$work/set.h5" | head -1 | cut -d: -f1)
head -c 40 /dev/zero | tr '\0' '\125' | dd of="$work/set.h5" bs=1 seek=$((at + 900)) conv=notrunc status=none
expect 1 "$atelier" data lint "$work/set.h5"
grep -q "banana.jpg: is damaged: its SHA-256 is not the one written down" "$work/out" "$work/err" || fail "lint does not name it"
train 1 --set dataset.path=set.h5 --set output.dir=damaged
says "banana.jpg: is damaged: its SHA-256 is not the one written down"
