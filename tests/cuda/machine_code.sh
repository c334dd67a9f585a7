#!/bin/bash
# scripts/cuda/sass on machine code of ours: it finds a kernel's main loop, counts it, and says what is wrong with it. Breaks
# if local memory, narrow reads, too few tensor instructions or packs that are none would go by.
set -euo pipefail
command -v python3 >/dev/null || { echo "no python3: not looked at"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/build/cuda"
touch "$work/build/cuda/one.cu.o"
printf '#!/bin/bash\ncat "%s/code"\n' "$work" >"$work/bin/cuobjdump"
cp "$work/bin/cuobjdump" "$work/bin/nvdisasm"
chmod +x "$work"/bin/*

# KERNEL INSTRUCTION…: a loop of them, 16 bytes apart, inside of a longer one without tensor instructions
code() {
    local at=32 name=$1 line
    shift
    printf 'Fatbin elf code:\narch = sm_80\n\t\tFunction : %s\n' "$name"
    printf '        /*%04x*/                   %s ;\n' 0 "MOV R1, c[0x0][0x28]" 16 "LDL R9, [R1]"
    for line in "$@"; do
        printf '        /*%04x*/                   %s ;   /* 0x0 */\n' $at "$line"
        at=$((at + 16))
    done
    printf '        /*%04x*/              @P0  BRA 0x20 ;\n' $at
    printf '        /*%04x*/              @!P1 BRA 0x10 ;\n' $((at + 16))
}
look() { CUDA_BIN=$work/bin "$(dirname "$0")/../../scripts/cuda/sass" "$work/build" >"$work/out" 2>&1; }
fail() {
    echo "$1" >&2
    cat "$work/out" >&2
    exit 1
}
wrong() { ! look && grep -qF -- "WRONG: $1" "$work/out" || fail "not said: $1"; }

mma="HMMA.16816.F32 R4, R8, R2, R4"
code window_kernel "$mma" "LDSM.16.M88.4 R8, [R3]" "LDGSTS.E.BYPASS.128 [R3], [R4.64]" "LDS RZ, [RZ]" >"$work/code"
look || fail "a good loop is refused"
grep -qE '^ +1/5 +window_kernel: ldmatrix 1 LDGSTS.128 1$' "$work/out" || fail "the loop is counted otherwise"
code window_kernel "$mma" "LDL R9, [R1]" >"$work/code"
wrong "window_kernel on sm_80: its loop touches local memory"
code window_kernel "$mma" "LDG.E.64 R10, [R4.64]" >"$work/code"
wrong "window_kernel on sm_80: its loop reads memory by LDG.64 bits"
code window_kernel "$mma" "@P3 LDG.E.U16 R10, [R4.64]" >"$work/code"
wrong "window_kernel on sm_80: its loop reads memory by LDG.16 bits"
code 'product_kernel<bf16, 0>' "$mma" "LDG.E.64 R10, [R4.64]" >"$work/code"
look || fail "what a kernel is allowed is refused"
code window_kernel "$mma" IADD{,,,,,,,} >"$work/code"
wrong "window_kernel on sm_80: 1 of 10 instructions are of tensor cores, less than 13.0%"
code 'geglu_kernel<bf16, 8>' "LDG.E.U16 R10, [R4.64]" "STG.E.64 [R4.64], R10" >"$work/code"
wrong "geglu_kernel<bf16, 8> on sm_80: it is for packs"
rm "$work/build/cuda/one.cu.o"
! look && grep -q 'has no kernels' "$work/out" || fail "an empty folder is looked at"
