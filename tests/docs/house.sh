#!/bin/bash
# The order of the house. Breaks if a folder includes what stands above it, or two folders each other; if an include is
# named otherwise than the rest; if a file or a folder has grown too large to be taken in, or docs/reading-the-code.md
# does not say what a folder is about; if two headers have one guard; if a script may wait for ever; or if a comment
# names a function or a file that is not there.
#
#     house.sh ATELIER [ROOT]
set -u
export LC_ALL=C # what wc says is read
cd "${2:-$(dirname "$0")/../..}" || exit 1
MOST_LINES=600
MOST_SOURCES=17 # of one folder, not counting headers
# Names in comments that are other programs' and that scripts/ does not call, or a formula's.
OTHERS="get_timestep_embedding initializer_factor kaiming_uniform sample_euler_ancestral set_new_handler
    tokenization_utils_base x0_before"

sources() { find "$@" \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) | sort; }
mapfile -t house < <(sources kernels data infer train)
mapfile -t all < <(sources kernels data infer train scripts tests)

# Each rule prints a line for what is against it.

# Includes ---------------------------------------------------------------------------------------------------------

# "FILE INCLUDED", by its path from the root, for each include that is not of the system; "! WHAT" where it is named
# wrongly.
includes() {
    awk '
        function folder(path) { sub(/\/[^\/]*$/, "", path); return path }
        BEGIN { for (i = 1; i < ARGC; i++) there[ARGV[i]] }
        /^ *# *include *"/ {
            split($0, part, "\"")
            name = part[2]
            beside = folder(FILENAME) "/" name
            if (name in there && folder(name) == folder(FILENAME))
                print "! " FILENAME ":" FNR ": a file of the same folder is included by its name alone, not as " name
            else if (!(name in there) && !(beside in there && name !~ /\//))
                print "! " FILENAME ":" FNR ": " name " is neither a path from the root nor beside it"
            print FILENAME, (name in there ? name : beside)
        }' "$@"
}

names_of_includes() { includes "${all[@]}" | sed -n 's/^! //p'; }

# A folder includes those at its place in the list or before it; and what two folders reach of each other by other ways
# than that is a circle.
ways_of_includes() {
    includes "${house[@]}" | grep -v '^!' | awk '
        function top(path) { sub(/\/.*/, "", path); return path }
        function folder(path) { sub(/\/[^\/]*$/, "", path); return path }
        BEGIN { split("kernels data infer train", order); for (i in order) rank[order[i]] = i }
        rank[top($2)] > rank[top($1)] { print $1 " includes " $2 ", which stands above it"; next }
        folder($1) != folder($2) {
            from = folder($1)
            to = folder($2)
            all[from]; all[to]; reach[from, to]
            by[from, to] = $1 " includes " $2
        }
        END {
            for (k in all) for (i in all) if ((i, k) in reach) for (j in all) if ((k, j) in reach) reach[i, j]
            for (i in all) for (j in all) if ((i, j) in by && (j, i) in reach)
                print "a circle of folders: " by[i, j] ", and from " j " a way leads back to " i
        }'
}

# Sizes ------------------------------------------------------------------------------------------------------------

lengths() {
    wc -l "${all[@]}" | awk -v most=$MOST_LINES '$2 != "total" && $1 > most {
        print $2 " has " $1 " lines; " most " is the most: split it by what it is about" }'
}

folders() {
    printf '%s\n' "${house[@]}" | grep '\.cu\?$' | sed 's|/[^/]*$||' | uniq -c | awk -v most=$MOST_SOURCES '
        $1 > most { print $2 "/ has " $1 " sources; " most " is the most: a folder is one noun" }'
}

# Each folder, down to the second level, has a line in the table of the page that explains the code.
explained() {
    local page=docs/reading-the-code.md
    comm -3 <(find kernels data infer train configs scripts tests docs -maxdepth 1 -type d ! -name '[._]*' | sort) \
        <(grep '^|' $page | grep -oE '^[^|]*\|[^|]*\|' | grep -oE '`[a-z]+/([a-z]+/)?`' | tr -d '`' | sed 's|/$||' | sort -u) |
        awk -F'\t' -v page=$page '{ print page ($1 != "" ? " has no line for " $1 "/" : " names " $2 "/, which is not there") }'
}

# Headers ----------------------------------------------------------------------------------------------------------

guards() {
    printf '%s\n' "${all[@]}" | grep 'h$' | xargs awk '
        function ends() { if (file != "" && !guard) print file ": has no guard (#ifndef, #define)" }
        FNR == 1 { ends(); file = FILENAME; guard = 0; asked = "" }
        /^#ifndef / && asked == "" { asked = $2 }
        /^#define / && $2 == asked && !guard {
            guard = 1
            if (asked in used) print FILENAME ": its guard " asked " is that of " used[asked]
            used[asked] = FILENAME
        }
        END { ends() }'
}

# Comments ---------------------------------------------------------------------------------------------------------

# "K NAME" for each that code, a string or a file has; "T PLACE TEXT" for each line of comment.
words() {
    awk '
        function keep(s) {
            while (match(s, /[A-Za-z_][A-Za-z0-9_]*/)) {
                known[substr(s, RSTART, RLENGTH)]
                s = substr(s, RSTART + RLENGTH)
            }
        }
        FNR == 1 { inside = 0; keep(FILENAME) }
        {
            line = $0
            text = ""
            while (line != "")
                if (inside) {
                    at = index(line, "*/")
                    text = text " " (at ? substr(line, 1, at - 1) : line)
                    line = at ? substr(line, at + 2) : ""
                    inside = !at
                } else if (match(line, /"([^"\\]|\\.)*"|\047([^\047\\]|\\.)*\047|\/\*|\/\//)) {
                    code = substr(line, 1, RSTART - 1)
                    what = substr(line, RSTART, RLENGTH)
                    line = substr(line, RSTART + RLENGTH)
                    keep(code)
                    if (what == "/*")
                        inside = 1
                    else if (what == "//") {
                        text = text " " line
                        line = ""
                    } else
                        keep(what)
                } else {
                    keep(line)
                    line = ""
                }
            if (text != "") print "T\t" FILENAME ":" FNR "\t" text
        }
        END { for (name in known) print "K\t" name }' "$@"
}

# A function is written as name(), or is a word in lower case with an underscore. But a word with a part of one letter
# is a formula (x_t), and one that begins or ends with an underscore a piece of a key.
comments() {
    {
        words "${all[@]}"
        cat scripts/reference/*.py scripts/builtin/*.py | grep -oE '[A-Za-z_][A-Za-z0-9_]*' | sort -u | sed 's/^/K\t/'
        printf 'K\t%s\n' $OTHERS
    } | sort | awk -F'\t' '
        $1 == "K" { known[$2]; next }
        $2 !~ /^(kernels|data|infer|train)\// { next }
        {
            text = $3
            while (match(text, /[A-Za-z_][A-Za-z0-9_]*/)) {
                name = substr(text, RSTART, RLENGTH)
                text = substr(text, RSTART + RLENGTH)
                if (name in known || name ~ /^_|_$|^._|_.$|_._/) continue
                if (name ~ /^[a-z0-9]+_[a-z0-9_]+$/ || text ~ /^\(\)/)
                    print $2 ": a comment names " name ", which is not there (if another program has it: OTHERS in " \
                        "tests/docs/house.sh)"
            }
        }'
}

# A file of the tree is there. One in capitals stands for any (kernels/ops/FAMILY.c).
files_in_comments() {
    words "${all[@]}" | awk -F'\t' '
        $1 == "T" {
            text = $3
            while (match(text, /(kernels|data|infer|train|scripts|tests|docs)\/[A-Za-z0-9_.\/-]*\.(cuh?|[ch]|py|md|sh)/)) {
                name = substr(text, RSTART, RLENGTH)
                text = substr(text, RSTART + RLENGTH)
                if (name !~ /[A-Z]/ && text !~ /^[A-Za-z0-9]/) print $2 "\t" name
            }
        }' | while IFS=$'\t' read -r place name; do
            [ -e "$name" ] || echo "$place: a comment names $name, which is not there"
        done
}

# Scripts ----------------------------------------------------------------------------------------------------------

# A loop that waits for what a process makes looks whether that process is alive.
waits() {
    find tests \( -name '*.sh' -o -name common \) -print0 | sort -z | xargs -0 awk '
        FNR == 1 { looked = -9 }
        /kill -0/ { looked = FNR }
        /sleep 0\.01/ && FNR - looked > 4 {
            print FILENAME ":" FNR ": waits for ever where what it waits for has ended; look (kill -0) whether it is alive"
        }'
}

found=$(
    [ "${#house[@]}" -gt 100 ] || echo "only ${#house[@]} sources were found"
    for rule in names_of_includes ways_of_includes lengths folders explained guards comments files_in_comments waits; do $rule; done
)
if [ -n "$found" ]; then
    sed 's/^/FAILED: /' <<<"$found" >&2
    exit 1
fi
echo "${#house[@]} sources are in order"
