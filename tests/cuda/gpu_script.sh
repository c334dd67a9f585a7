#!/bin/bash
# scripts/gpu with programs that stand in for a GPU's: a failure is written down and the rest goes on, what hangs is
# ended, and the file has everything that was said. Breaks if a slip there wasted the few minutes of a lent machine.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$(dirname "$0")/../.."
mkdir "$work/bin" "$work/build"

fake() { # FILE, its text from standard input
    { echo '#!/bin/sh'; cat; } >"$1"
    chmod +x "$1"
}
fake "$work/bin/nvidia-smi" <<'S'
case "$*" in *memory.used*) echo 700 ;; *) echo "0, GPU, 9.0" ;; esac
S
fake "$work/bin/compute-sanitizer" <<'S'
for word; do last=$word; done
[ "$last" != geglu ] || { echo "========= Invalid read"; exit 9; }
S
fake "$work/build/atelier" <<'S'
case "$*" in
*sample*) while [ "$1" != --out ]; do shift; done; echo picture >"$2"; echo '  "device": "some",' ;;
*bench*) printf '  "device": "some",\n  "median_s": 0.5,\n  "flop": 1e12,\n  "share_of_peak": 0.5,\n  "peak_bytes": 1000\n' ;;
*) echo "Nothing is missing." ;;
esac
S
names="kernels_ops kernels_mixtures good bad after"
printf '%s\n' $names >"$work/build/gpu_tests"
echo "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" >"$work/build/CMakeCache.txt"
for name in $names kernels_nccl kernels_nccl_sums train_gpus; do
    echo "echo '[ RUN      ] x'; echo '[  PASSED  ] 1 test(s).'" | fake "$work/build/test_$name"
done
echo "echo '[  FAILED  ] it'; exit 1" | fake "$work/build/test_bad"

# has TEXT: the file has a line with it
has() {
    grep -qF -- "$1" "$work/out" || { echo "gpu.txt lacks: $1"; cat "$work/out"; exit 1; }
}
run() {
    PATH=$work/bin:$PATH scripts/gpu --build "$work/build" --out "$work/out" "$@" >"$work/said" 2>&1
}
run && { echo "parts failed, and it said that they did not"; exit 1; }
cmp "$work/out" "$work/said"
has "0, GPU, 9.0"
has "Nothing is missing."
has "the same bytes"
has "kernels_ops: passed"
has "unet --dtype bf16  " # a row of figures
has "nvidia-smi saw 700 MiB"
has "geglu, memcheck: FAILED"
has "========= Invalid read"
has "attention, racecheck: clean"
has "[  FAILED  ] it"
has "bad: FAILED"
has "after: passed"
has "train_gpus: passed"
has "2 of the sections failed"
if grep -q "RUN" "$work/out"; then echo "what says nothing is in the file"; exit 1; fi

# What hangs is ended, wherever the time is over.
for name in kernels_ops good; do
    { echo "echo begun; exec sleep 100000" | fake "$work/build/test_$name"; }
done
run --minutes 0.05 && status=0 || status=$?
has "left out, 0.05 minutes are over"
run --minutes 0 || { echo "nothing failed, and it said that something did"; exit 1; }
has "doctor: left out"
run --minutes x && status=0 || status=$?
[ $status = 2 ] || { echo "a wrong word is not refused: $status"; exit 1; }
