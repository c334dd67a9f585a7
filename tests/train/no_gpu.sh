#!/bin/bash
# A program that finds no GPU, with CUDA built in or without: it says why and what to do, and works on the processor.
# Breaks if a missing driver or toolkit would be an error of everything, if one that is asked for were passed over in
# silence, or if libraries of a GPU were needed to start. scripts/cuda/compile runs it with CUDA built in.
#
#     no_gpu.sh ATELIER
. "$(dirname "$0")/../checks" "$1"

export CUDA_VISIBLE_DEVICES= # where there are GPUs, they are not seen
unset ATELIER_DEVICE

run 0 --version
run 0 doctor --json
grep -q '"used": false' "$work/out" || fail "doctor: a GPU is used that is not seen"
why=$(sed -n 's/^ *"why": "\(.*\)",$/\1/p' "$work/out")
case $why in
*"built without CUDA"*"scripts/setup --cuda"* | *"no NVIDIA driver"*"Install"* | *"finds no GPU"* | *"too old"*"Update"*) ;;
*) fail "doctor does not say why there is no GPU and what to do: $why" ;;
esac
run 0 doctor
grep -qF -- "${why#a GPU may be there, but }" "$work/out" || fail "doctor's text does not say why"
run 2 sample --model builtin:tiny --prompt "a red heart" --device cuda --out "$work/heart.png"
says "sample: --device: cuda: ${why#a GPU may be there, but }"
[ ! -e "$work/heart.png" ] || fail "it was drawn on something else than what was asked for"
# as in commands.sh: gcc 12's leak checker falls where threads have computed in a library that was opened late
ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 run 0 sample --model builtin:tiny --prompt "a red heart" --steps 2 --json --out "$work/heart.png"
grep -q '"device": "cpu"' "$work/out" || fail "auto does not take the processor"
[ -s "$work/heart.png" ] || fail "nothing was drawn"
if command -v readelf >/dev/null; then
    for library in "$(dirname "$atelier")"/libatelier*.so; do
        ! readelf -d "$library" | grep -E 'NEEDED.*(cuda|cublas|nccl|nvidia)' || fail "$library: linked with a GPU's libraries"
    done
fi

finish "without a GPU it says why, and computes on the processor"
