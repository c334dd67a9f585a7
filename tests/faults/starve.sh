#!/bin/bash
# Memory that runs out inside libraries: each allocation failing in turn that jansson (whose memory comes through
# libatelier), libyaml, libpng, libjpeg, libwebp, utf8proc or libc asks for; once steps are run, that oneDNN, the C++
# library under it, and HDF5 ask for. Breaks if a command then crashes, fails without a message, or ends well with
# another result: a key missing in a JSON file, a picture left out.
#
#     starve.sh ATELIER [STRIDE [LIBRARY…]]   every STRIDE-th allocation of libatelier, every STRIDE/50-th of others
. "$(dirname "$0")/common" "$1"
stride=${2:-2503}
libraries=("${@:3}")
[ ${#libraries[@]} -gt 0 ] || libraries=(libatelier libyaml libpng libjpeg libwebp libutf8proc libc.so)
faults=$work/starve.so
if grep -q __asan_init "$(dirname "$atelier")/libatelier.so"; then
    echo "AddressSanitizer has an allocator of its own"
    exit 0
fi

# A plan begins with the memory that the process uses already, which is not always the same page for page.
printed() { plain "$1" | sed 's/"\(other\|host_bytes\|bytes\|minimal\|balanced\|speed\)": [0-9]*//'; }
fed() {
    mkdir -p "$work/run"
    case $3 in
    0)
        # an old checkpoint may stay, which is said
        grep -q "^atelier: warning: .*cannot be removed: " "$work/err" || same_end "$1" "$4"
        diff <(printed "$work/out") <(printed "$work/printed-$1") > /dev/null || fail "$4: prints something else"
        ;;
    1 | 2)
        grep -q "^atelier: error: " "$work/err" || fail "$4: status $3 without a message"
        whole_files "$1" "$4"
        ;;
    *) fail "$4: status $3: $(tail -n 2 "$work/err")" ;;
    esac
}

# What a command prints is looked at as well.
commands() {
    [ -d "$work/whole-$1" ] || undisturbed "$@"
    [ -e "$work/printed-$1" ] || cp "$work/out" "$work/printed-$1"
    local step
    for FAULT_FROM in "${libraries[@]}"; do
        export FAULT_FROM
        step=$stride
        [ "$FAULT_FROM" = libatelier ] || step=$((stride / 50 + 1))
        everywhere starve $((1 + step / 7)) $step "$1" fed "${@:2}"
    done
}

mkdir "$work/formats"
cp "$here/tests/golden/pictures"/*.{jpg,png,webp} "$work/pictures"/* "$work/formats"
model=$here/tests/golden/models/sd1
commands check "$atelier" config show "$work/prior.yaml"
commands plan "$atelier" train "$work/prior.yaml" --plan --no-time --json
commands build "$atelier" data build "$work/formats" --out "$work/run/set.h5" --caption "a thing" --skip-bad --json
commands sample "$atelier" sample --model "$model" --prompt "a cat" --steps 1 --seed 1 --threads 1 --out "$work/run/cat.png" --json
commands sdxl "$atelier" sample --model "$here/tests/golden/models/sdxl" --prompt "a cat" --prompt-2 "a dog" --steps 1 --seed 1 \
    --threads 1 --out "$work/run/cat.png" --json
undisturbed prior-all "$atelier" train "$work/prior.yaml" --set output.keep=9
commands prior "$atelier" train "$work/prior.yaml"

# From the first step on.
export FAULT_SINCE=$work/run/prior/log.jsonl
libraries=(libstdc++ libhdf5)
commands prior "$atelier" train "$work/prior.yaml"
# oneDNN does not look whether it got its own small objects (kernels/cpu/onednn/reserve.h): a system that refuses them is out of
# memory, and then oneDNN is not called (tests/kernels/test_reserve.c). Buffers it has to look at.
export FAULT_LEAST=4096
libraries=(libdnnl)
commands prior "$atelier" train "$work/prior.yaml"
echo "$places allocations"
[ $failures = 0 ]
