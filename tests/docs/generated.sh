#!/bin/bash
# The pages that the program makes are what it prints. Breaks if an option or a key was changed and scripts/docs
# not called.
#
#     generated.sh ATELIER
set -u
atelier=$1
status=0

same() {
    "${@:2}" | cmp -s - "$1" && return
    echo "FAILED: $1 is not what \`atelier ${*:3}\` prints; call scripts/docs" >&2
    status=1
}

same docs/commands.md "$atelier" --help=markdown
same docs/configuration.md "$atelier" config reference
exit "$status"
