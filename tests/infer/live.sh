#!/bin/bash
# A picture while it is made: as a file, and in the ways of terminals.
#
#     live.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
cd "$work" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
heart=(sample --model "$here/tests/golden/models/sd1" --prompt "a red heart" --steps 2 --sampler ddim --out heart.png)

# a file: the picture itself in the end, and what is drawn is the same with and without
run 0 "${heart[@]}"
cp heart.png alone.png
run 0 "${heart[@]}" --live live.png
cmp -s heart.png alone.png || fail "looking on changes the picture"
[ "$(od -An -tx1 -N8 live.png)" = " 89 50 4e 47 0d 0a 1a 0a" ] || fail "live.png is no PNG"
[ "$(od -An -tx1 -j16 -N8 live.png)" = "$(od -An -tx1 -j16 -N8 heart.png)" ] || fail "live.png has another size"

# terminals: each step and the picture in the end; cursor up between them, so that they take one place
shows() { # WAY BYTES TIMES
    run 0 "${heart[@]}" --live "$1"
    [ "$(grep -aoF -- "$2" err | wc -l)" = "$3" ] || fail "--live $1: $(grep -aoF -- "$2" err | wc -l) times $2, not $3"
    grep -aqF $'\e[' err || fail "--live $1: the cursor never moves"
}
shows kitty $'\e_Ga=T,f=100' 3
shows iterm $'\e]1337;File=inline=1' 3
shows sixel $'\ePq"1;1;' 3
shows blocks $'\e[22A' 2
grep -aqF "▀" err || fail "no blocks"

# where nobody looks, nothing is shown; what cannot be meant is refused before the work
run 0 "${heart[@]}" --live auto
grep -aq $'\e' err && fail "something is shown in a log"
run 2 "${heart[@]}" --live everywhere
says "expected one of off|auto|kitty|iterm|sixel|blocks|FILE.png"
run 2 "${heart[@]}" --live heart.png/x.png
says "--live"

finish "live: everything as it should be"
