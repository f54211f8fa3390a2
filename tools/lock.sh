#!/usr/bin/env bash
# Pin every dependency with its hashes: requirements/dev.txt first, what makes the images within it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() { # OUTPUT OPTIONS…
  local output=$1
  shift
  printf 'lock: %s\n' "$output" >&2
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-annotate --no-header --prerelease=if-necessary-or-explicit \
    pyproject.toml "$@" -o "$output" >/dev/null
}

compile requirements/dev.txt --extra all --group dev
for plane in operator dataplane; do
  compile "requirements/$plane.txt" --extra "$plane" -c requirements/dev.txt
done
compile requirements/build.txt --extra dataplane --group build -c requirements/dev.txt
