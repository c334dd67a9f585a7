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

# With CUDA in it, and a driver that is not as it should be: one of ours, which says what it is told.
if grep -q '"CUDA_built_with": "' <("$atelier" doctor --json) && command -v cc >/dev/null; then
    cat >"$work/driver.c" <<'C'
#include <stdlib.h>
#include <string.h>
static int said(const char *name, int usual) { const char *s = getenv(name); return s ? atoi(s) : usual; }
static int none(void) { return 100; } /* CUDA_ERROR_NO_DEVICE */
int cuInit(unsigned flags) { (void)flags; return said("DRIVER_STARTS", 0); }
int cuDriverGetVersion(int *version) { *version = said("DRIVER_VERSION", 99000); return 0; }
int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long long flags, int *found)
{
    (void)version, (void)flags;
    if (found)
        *found = 0;
    *function = !strcmp(name, "cuInit")               ? (void *)cuInit
                : !strcmp(name, "cuDriverGetVersion") ? (void *)cuDriverGetVersion
                : !strncmp(name, "cuGetProcAddress", 16) ? (void *)cuGetProcAddress_v2 : (void *)none;
    return 0;
}
int cuGetProcAddress(const char *name, void **function, int version, unsigned long long flags)
{
    return cuGetProcAddress_v2(name, function, version, flags, 0);
}
C
    cc -shared -fPIC -o "$work/libcuda.so.1" "$work/driver.c" || fail "the driver that is none does not compile"
    # SETTING WHAT_IT_SAYS [quiet]: what doctor says, and whether auto has to say it
    driver() {
        LD_LIBRARY_PATH=$work env "$1" "$atelier" doctor >"$work/out" 2>&1
        grep -qF -- "$2" "$work/out" || fail "$1: \"$2\" is not in: $(grep why "$work/out")"
        LD_LIBRARY_PATH=$work env "$1" "$atelier" sample --model builtin:tiny --prompt "a red heart" --steps 1 \
            --out "$work/heart.png" >"$work/out" 2>"$work/err" || fail "$1: auto does not take the processor: $(cat "$work/err")"
        if [ "${3:-}" = quiet ]; then
            ! grep -q warning "$work/err" || fail "$1: $(cat "$work/err")"
        else
            says "warning: computing on the processor: the NVIDIA driver"
        fi
    }
    driver DRIVER_VERSION=11080 "too old: it knows CUDA up to 11.8"
    driver DRIVER_STARTS=100 "finds no GPU" quiet
    driver DRIVER_STARTS=803 "the NVIDIA driver failed"
fi
if command -v readelf >/dev/null; then
    for library in "$(dirname "$atelier")"/libatelier*.so; do
        ! readelf -d "$library" | grep -E 'NEEDED.*(cuda|cublas|nccl|nvidia)' || fail "$library: linked with a GPU's libraries"
    done
fi

finish "without a GPU it says why, and computes on the processor"
