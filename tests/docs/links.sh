#!/bin/bash
# The documentation speaks of what is there. Breaks if a link leads nowhere, if a page is missing in the index or a
# configuration in all of them, or if docs/reading-the-code.md and docs/file-formats.md name a file, function or key
# that was renamed.
set -u
cd "$(dirname "$0")/../.." || exit 1
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# The anchors of a page, as GitHub makes them of its headings.
anchors() {
    awk '/^```/ { code = !code } !code && /^#+ / { sub(/^#+ /, ""); print }' "$1" |
        tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9 _-]//g; s/ /-/g'
}

# "TARGET" of every "](TARGET)" outside of code
links() {
    awk '/^ *```/ { code = !code } !code' "$1" | sed 's/`[^`]*`//g' | grep -o '](\([^)]*\))' | sed 's/^](//; s/)$//'
}

for page in README.md docs/*.md; do
    while read -r target; do
        case $target in http://* | https://*) continue ;; esac
        file=${target%%#*}
        path=$page
        [ -z "$file" ] || path=$(dirname "$page")/$file
        [ -e "$path" ] || { fail "$page: the link to $target leads nowhere"; continue; }
        [[ $target != *#* ]] || anchors "$path" | grep -qxF -- "${target#*#}" ||
            fail "$page: $path has no heading for #${target#*#}"
    done < <(links "$page")
    [ "$page" = README.md ] || [ "$page" = docs/README.md ] || grep -qF "(${page#docs/})" docs/README.md ||
        fail "docs/README.md does not list $page"
done

for config in configs/*.yaml; do
    grep -qF "$config" README.md docs/*.md || fail "no page names $config"
done

# What stands in backquotes and looks like a file of the tree, or like a function
named() { # PAGE PATTERN
    awk '/^ *```/ { code = !code } !code' "$1" | grep -o '`[^`]*`' | tr -d '`' | grep -xE -- "$2" | sort -u
}
sources=$(git ls-files 2>/dev/null | grep -E '\.(c|h|py|txt)$' || find kernels data infer train scripts tests -name '*.[ch]')
for page in docs/reading-the-code.md docs/file-formats.md docs/run-folder.md; do
    [ -e "$page" ] || continue
    while read -r path; do
        [ -e "$path" ] || fail "$page: there is no $path"
    done < <(named "$page" '(kernels|data|infer|train|configs|scripts|tests|docs)/[A-Za-z0-9_./-]*')
done
while read -r name; do
    # shellcheck disable=SC2086
    grep -qE "^[A-Za-z#].*[ *(]${name%()}\(" $sources || fail "docs/reading-the-code.md: there is no function $name"
done < <(named docs/reading-the-code.md '[a-z0-9_A-Z]+\(\)')
# `function()` (`file`): it stands there, or is declared there
while IFS='`' read -r _ name _ path _; do
    grep -qE "^[A-Za-z#].*[ *(]${name%()}\(" "$path" || fail "docs/reading-the-code.md: $name is not in $path"
done < <(tr '\n' ' ' <docs/reading-the-code.md | grep -oE '`[a-z0-9_A-Z]+\(\)` \(`[a-z0-9_/.]+\.[ch]`')
for key in $(grep -oE '"ssh?s?_[a-z_]+"' train/export/export_metadata.c train/export/export.c -h | tr -d '"' | sort -u); do
    grep -qF "\`$key\`" docs/file-formats.md || fail "docs/file-formats.md does not name the metadata $key"
done

[ "$failures" -eq 0 ] || exit 1
echo "all links lead somewhere"
