#!/bin/bash
# The pages that the program makes are what it prints, and they name every word that users can choose. Breaks if an
# option or a key was changed and scripts/docs not called, or if a sampler, a kind of adapter, an optimizer, an objective
# or a file format was added that no page and no help tells of.
#
#     generated.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
cd "$here" || exit 1

"$atelier" --help=markdown >"$work/commands.md"
"$atelier" config reference >"$work/configuration.md"
for page in commands configuration; do
    cmp -s "docs/$page.md" "$work/$page.md" || fail "docs/$page.md is not what the program prints; call scripts/docs"
done

# "TABLE WORD" of every table "#define TABLE(X) X(WORD, …) X(WORD, …) …" in a header. Operations are the authors' words.
words() {
    find kernels data infer train -name '*.h' -exec awk '
        !inside && match($0, /^#define +[A-Z_]+\(X\)/) {
            inside = 1
            table = substr($2, 1, index($2, "(") - 1)
            sub(/^#define +[A-Z_]+\(X\)/, "")
        }
        inside {
            gsub(/"([^"\\]|\\.)*"/, "")
            for (line = $0; match(line, /(^|[^A-Za-z0-9_])X\( *[a-z0-9_]+/); line = substr(line, RSTART + RLENGTH)) {
                word = substr(line, RSTART, RLENGTH)
                sub(/.*\( */, "", word)
                print table, word
            }
            inside = /\\$/
        }' {} + | grep -vE '^(ATL_OPS|OPENMPI_[A-Z]+|NCCL_FUNCTIONS) '
}
words >"$work/words"
[ -s "$work/words" ] || fail "no table was found"
# In a list of words or by itself; in a sentence it may be a word like another.
while read -r table word; do
    cat "$work"/*.md | grep -qE "([.,|(\`\"] ?|(^| )(or|of|and|are|is) )$word([^a-z0-9_]|\$)" ||
        fail "$word (of $table) is in no help: neither docs/commands.md nor docs/configuration.md names it"
done <"$work/words"
finish "the pages are the program's, and name $(wc -l <"$work/words") words of $(cut -d' ' -f1 "$work/words" | uniq | wc -l) tables"
