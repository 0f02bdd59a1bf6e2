#!/usr/bin/env bash
# Formatting, layers, shell scripts and clang-tidy: every finding is an error. Arguments limit
# clang-tidy as in scripts/tidy.sh.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages "${lint_packages[@]}"
status=0
part "format" scripts/format.sh --check || status=1
part "shell scripts" shellcheck -x -P SCRIPTDIR .ci/run scripts/*.sh tests/install/*.sh || status=1
part "layers" scripts/check-layers.sh || status=1
part "clang-tidy" scripts/tidy.sh "$@" || status=1
print_parts
exit "$status"
