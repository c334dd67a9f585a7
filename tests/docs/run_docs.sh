#!/bin/bash
# Every command of README.md and docs/ is run as it stands there, in a folder like the reader's: configs/ and data/ of
# the checkout, photos of a dog without captions and of a cat with them, and the built-in model where the reader's model lies. Breaks if a
# command in them fails, or a configuration in them is wrong.
#
# A page's blocks: ```sh is run; ```yaml is checked, and written to NAME.yaml if its first line is "# NAME.yaml", after
# which later blocks use it; others are for reading. Below a line "<!-- by hand: WHY -->" a block is not run, because it
# takes minutes or needs what is not here; its options are still looked up. "<!-- all by hand: WHY -->" says that of a
# whole page. build/atelier in the folder runs the program with a few words added that make it short: two training
# steps, two sampling steps, the small model's shapes.
#
#     run_docs.sh ATELIER [PAGE...]
. "$(dirname "$0")/../checks" "$1"
ATELIER_REAL=$atelier
export ATELIER_REAL GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}
# gcc 12's leak checker falls over the thread-local memory of libraries opened late, as the launcher opens ours
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
shift

# A page's blocks as $1/NN.sh, NN.yaml and NN.hand, and where each begins in NN.line.
extract() { # FOLDER PAGE
    awk -v folder="$1" '
        /^<!-- all by hand: / { all = 1 }
        /^<!-- by hand: / { hand = 1; next }
        !inside && /^```(sh|yaml)$/ {
            inside = 1
            kind = substr($0, 4)
            name = sprintf("%s/%02d", folder, ++count)
            file = name "." (kind == "sh" && (hand || all) ? "hand" : kind)
            print FNR + 1 > (name ".line")
            printf "" > file
            hand = 0
            next
        }
        inside && /^```$/ { inside = 0; close(file); next }
        inside { print > file }
        !inside && /^```/ { other = !other }
        !inside && NF { hand = 0 }' "$2"
}

# What a reader has: the checkout's folders, a model, photos.
furnish() { # FOLDER
    mkdir -p "$1"/{build,models,photos/dog,photos/cat,out,stable-diffusion-webui/models/Lora,ComfyUI/models/loras}
    cp -r "$here/configs" "$1"
    cp "$here/tests/docs/short_atelier" "$1/build/atelier"
    ln -s "$here/data" "$here/scripts" "$here/docs" "$1"
    ln -s "$here/data/builtin/tiny" "$1/sd15"
    ln -s "$here/data/builtin/tiny" "$1/models/sd15.safetensors"
    ln -s "$here/tests/golden/models/sdxl" "$1/models/sdxl.safetensors"
    local number=0 photo
    for photo in "$here"/data/examples/*.jpg; do
        number=$((number + 1))
        [ $number -le 20 ] && cp "$photo" "$1/photos/dog/$(printf '%02d' $number).jpg"
        [ $number -le 5 ] && cp "$photo" "${photo%.jpg}.txt" "$1/photos/cat"
    done
    printf '%s\n' 'model: {base: sd15}' 'dataset: {path: photos/cat}' 'output: {dir: runs/cat}' >"$1/cat.yaml"
}

# The options of a command that is not run are looked up in its help, its files in the checkout.
look_up() { # BLOCK PLACE
    local line words command option
    sed -e ':a' -e '/\\$/N; s/\\\n//; ta' "$1" | sed 's/#.*//' | while read -r line; do
        read -ra words <<<"$line"
        case ${words[0]:-} in
        atelier | build/atelier | \$atelier)
            command=${words[1]:-}
            case $command in data | config | lora | model | picture) command+=" ${words[2]:-}" ;; esac
            # shellcheck disable=SC2086
            "$ATELIER_REAL" $command --help >"$work/help" 2>&1 || { echo "$2: no such command: $line"; continue; }
            for option in "${words[@]:2}"; do
                [[ $option =~ ^(--[a-z-]+) ]] || continue
                grep -q -- "^  ${BASH_REMATCH[1]}\( \|$\)" "$work/help" || echo "$2: atelier $command has no $option"
            done
            ;;
        scripts/*) [ -x "$here/${words[0]}" ] || echo "$2: no such script: ${words[0]}" ;;
        esac
    done
}

check_yaml() { # BLOCK PLACE
    local name file=$2.yaml
    name=$(sed -n '1s/^# \([a-z0-9-]*\.yaml\)$/\1/p' "$1")
    file=${name:-fragment.yaml}
    grep -v '^\.\.\.$' "$1" >"$file"
    grep -q '^model:' "$file" || echo 'model: {base: builtin:tiny}' >>"$file"
    grep -q '^dataset:' "$file" || echo 'dataset: {path: photos/dog}' >>"$file"
    "$ATELIER_REAL" config check "$file" >"$work/output" 2>&1 || fail "$2: $(cat "$work/output")"
}

run_page() { # PAGE
    local page=$1 folder=$work/$1 block place found
    mkdir -p "$folder/blocks"
    furnish "$folder/reader"
    extract "$folder/blocks" "$here/$page"
    cd "$folder/reader" || exit 1
    for block in "$folder"/blocks/*.{sh,yaml,hand}; do
        [ -e "$block" ] && echo "$block"
    done | sort >"$folder/list"
    while read -r block; do
        place=$page:$(cat "${block%.*}.line")
        case $block in
        *.yaml) check_yaml "$block" "$place" ;;
        *.hand)
            echo "by hand: $place"
            found=$(look_up "$block" "$place")
            [ -z "$found" ] || fail "$found"
            ;;
        *.sh)
            PATH=$PWD/build:$PATH bash -eu "$block" >"$work/output" 2>&1 </dev/null ||
                fail "$place: a command failed (if it takes minutes, or what a reader has not: <!-- by hand: WHY -->):
$(cat "$block")
$(tail -n 20 "$work/output")"
            ;;
        esac
    done <"$folder/list"
    cd "$here" || exit 1
}

if [ $# -eq 0 ]; then
    cd "$here" || exit 1
    set -- README.md docs/*.md
fi
for page in "$@"; do
    run_page "$page"
done
finish "all commands of $# pages work"
