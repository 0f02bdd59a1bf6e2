#!/usr/bin/env bash
# Holds the direction of docs/architecture.md: which folder of src/ may include which, that public
# headers stand alone, and that libvips is seen by the picture code alone.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

declare -A allowed=(
  [core]=''
  [model]='core'
  [model/reference_backend.cc]='core model backend.h' # the readable forward pass as a backend
  [backend.h]='core model'
  [cpu]='core model backend.h'
  [cuda]='core model backend.h'
  [engine]='core model backend.h'
  [engine/devices.cc]='core model backend.h engine cuda' # lists what a backend can offer here
  [quality]='core model backend.h engine'
  [onnx]='core model'
  [onnx/plugin_nodes.cc]='core model onnx cuda' # the plugins' streams are the kernels'
  [tensorrt]='core model backend.h onnx cuda'
  [picture]='core'
)

status=0
complain() {
  echo "$1" >&2
  status=1
}

while IFS=: read -r file line text; do
  layer=${file#src/}
  [[ -v allowed[$layer] ]] || layer=${layer%%/*}
  target=${text#*\"}
  target=${target%%\"*}
  if [[ ! -v allowed[$layer] ]]; then
    complain "$file: folder $layer has no place in the layers yet"
    continue
  fi
  [[ $target == */* || $target == backend.h ]] || continue
  [[ $target == elan/* ]] && continue
  target=${target%%/*}
  [[ " ${allowed[$layer]:-} $layer " == *" $target "* ]] ||
    complain "$file:$line: $layer must not include $target (allowed: ${allowed[$layer]:-nothing})"
done < <(grep -rnE '^ *# *include *"' src --include='*.cc' --include='*.h' --include='*.cu' --include='*.cuh')

while IFS=: read -r file line text; do
  [[ $text == *\"elan/* || $text =~ \<[a-z_]+\> ]] ||
    complain "$file:$line: public headers include the standard library and each other, nothing else"
done < <(grep -rnE '^ *# *include' include)

while read -r file; do
  [[ $file == src/picture/* && $file != src/picture/picture.h || $file == tests/picture/* ]] ||
    complain "$file: only src/picture may include libvips, and not in its interface picture.h"
done < <(grep -rlE '^ *# *include *[<"](vips/|glib)' src include cli tests examples)

exit "$status"
