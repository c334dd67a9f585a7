#!/bin/bash
# Every configuration in configs/ works as it stands: checked, planned, and run for two steps. Where it names a model or
# pictures that do not come with Atelier, a tiny model and a few pictures lie at that path.
#
#     configs.sh ATELIER
set -eu
atelier=$1
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# gcc 12's leak checker falls over the thread-local memory of libraries opened late; leaks are looked for in the tests that
# link the library
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
fail() { echo "$*"; cat "$work/said" "$work/told"; exit 1; }
expect() { "$@" > "$work/said" 2> "$work/told" || fail "status $?: $*"; }

# The paths that configurations name are relative to their own folder; $work/data is the checkout's.
mkdir -p "$work/configs/models"
ln -s "$here/data" "$work/data"

# some_pictures PATH: three pictures with captions, as a folder or as a dataset
some_pictures() {
    local folder=${1%.h5} picture
    mkdir -p "$folder"
    for picture in banana bell bicycle; do
        cp "$here/data/examples/$picture".{jpg,txt} "$folder"
    done
    [ "$folder" = "$1" ] || expect "$atelier" data build "$folder" --out "$1"
}

seen=0
for config in "$here"/configs/*.yaml; do
    name=$(basename "$config" .yaml)
    cp "$config" "$work/configs"
    expect "$atelier" config check "$work/configs/$name.yaml"
    grep -q "all right" "$work/said" || fail "$name: not all right"
    expect "$atelier" config show "$work/configs/$name.yaml"
    # small: two steps of two pictures, previews of one step
    few=(--set train.steps=2 --set train.batch=2 --set optimizer.warmup=0 --set preview.every=2 --set preview.steps=1)
    base=$(sed -n 's/^  base: *//p' "$work/said")
    if [ "${base#builtin:}" = "$base" ]; then
        like=sd1
        [[ $base != *sdxl* ]] || like=sdxl
        [ -e "$base" ] || ln -s "$here/tests/golden/models/$like" "$base"
        # for sizes of a real model it is not made
        few+=(--set train.resolution=32 --set preview.width=32 --set preview.height=32)
    fi
    ! grep -q '^  epochs:' "$config" || few+=(--set train.epochs=0)
    # as many class pictures as lie in the folder made below, so that none has to be drawn
    ! grep -q '^prior:' "$config" || few+=(--set prior.pictures=3)
    sed -n 's/^ *-* *path: *//p' "$work/said" >"$work/paths"
    while read -r path; do
        [ -e "$path" ] || some_pictures "$path"
    done <"$work/paths"
    expect "$atelier" train "$work/configs/$name.yaml" "${few[@]}" --plan --json
    grep -q '"steps": 2,' "$work/said" || fail "$name: no plan"
    expect "$atelier" train "$work/configs/$name.yaml" "${few[@]}" --set output.dir="$work/runs/$name"
    grep -q '"step":2,' "$work/runs/$name/log.jsonl" || fail "$name: the log lacks step 2"
    grep -q '"done":true' "$work/runs/$name/log.jsonl" || fail "$name: the log has no last line"
    [ -e "$work/runs/$name/lora.safetensors" ] || [ -e "$work/runs/$name/model/model_index.json" ] ||
        fail "$name: nothing was exported"
    seen=$((seen + 1))
done
[ "$seen" -ge 4 ] || fail "only $seen configurations"
echo "configs: $seen checked, planned and run"
