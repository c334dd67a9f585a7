#!/bin/bash
# What libatelier shows to a host program is what train/atelier.h declares. Breaks if an inner function leaks, which
# would collide with the host's own names, or if one that is declared is not there.
#
#     exports.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
# The linker's and the sanitizers' own names begin with two underscores.
nm -D --defined-only "$(dirname "$atelier")/libatelier.so" | awk '$3 !~ /^__/ { print $3 }' | sort >"$work/exported"
grep -oE '\batl_[a-z0-9_]+\(' "$here/train/atelier.h" | tr -d '(' | sort -u >"$work/declared"
[ -s "$work/declared" ] || fail "train/atelier.h declares nothing"
while read -r name; do
    fail "libatelier exports $name, which train/atelier.h does not declare (train/atelier.map)"
done < <(comm -23 "$work/exported" "$work/declared")
while read -r name; do
    fail "train/atelier.h declares $name, which libatelier does not export"
done < <(comm -13 "$work/exported" "$work/declared")
finish "libatelier exports $(wc -l <"$work/exported") names"
