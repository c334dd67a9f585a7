#!/bin/bash
# The built-in model still draws what its prompts name. Breaks if its weights, the sampler or the pipeline are not
# what docs/builtin-model.md measured.
#
#     quality.sh ATELIER
set -u
judge=$(dirname "$1")/model_quality
out=$("$judge" --every 90 --threads 1) || { echo "FAILED: $judge: $out" >&2; exit 1; }

# "… rules in 17 of 20 pairs (85 %)", "… one of the 5 nearest for 11 (91.7 %)"
colours=$(sed -n 's/^colours: .* in \([0-9]*\) of 20 pairs.*/\1/p' <<<"$out")
names=$(sed -n 's/^names: \([0-9]*\) sampled; .*5 nearest for \([0-9]*\) .*/\2 * 100 \/ \1/p' <<<"$out")
if [ "${colours:-0}" -lt 14 ] || [ "$((${names:-0}))" -lt 80 ]; then
    echo "FAILED: the built-in model knows too little:" >&2
    echo "$out" >&2
    exit 1
fi
