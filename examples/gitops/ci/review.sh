#!/usr/bin/env bash
# What a change of the models means: validate every overlay, compare it with the one before.
#   ci/review.sh BASE    BASE is a commit; the page goes to standard output, as Markdown
# Exits 1 where an object is wrong, or a change is one of those that FAIL_ON names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base=${1:?name the commit to compare with}
fail_on=${FAIL_ON-loosened}
made=$(mktemp -d)
trap 'git worktree remove --force "$made/base" 2>/dev/null || true; rm -rf "$made"' EXIT
git worktree add --quiet --detach "$made/base" "$base"
# The repository, or the folder of it that this is.
before=$made/base/$(git rev-parse --show-prefix)

render() { # FOLDER FILE: an overlay that is not there renders to nothing
  if [ -e "$1/kustomization.yaml" ]; then kubectl kustomize "$1" >"$2"; else : >"$2"; fi
}

status=0
# An overlay that is gone is a change, too.
names=$(for folder in models/overlays/*/ "$before"models/overlays/*/; do basename "$folder"; done)
while read -r name; do
  [ "$name" != '*' ] || continue # none at all
  overlay=models/overlays/$name/
  mkdir -p "$made/$name"
  render "$before/$overlay" "$made/$name/old.yaml"
  render "$overlay" "$made/$name/new.yaml"
  printf '## %s\n\n' "$name"
  # Warnings are told and fail nothing: Secrets and other teams' backends are in the cluster alone.
  if ! told=$(switchboard validate "$made/$name/new.yaml"); then
    # Indented, not fenced: what a manifest says cannot end it.
    printf '%s\n\n' "${told//$made\/$name\/new.yaml/$overlay}" | sed 's/^/    /'
    status=1
    continue
  fi
  compared=0
  switchboard diff --output markdown ${fail_on:+--fail-on "$fail_on"} \
    "$made/$name/old.yaml" "$made/$name/new.yaml" || compared=$?
  printf '\n'
  # 0 and 1: nothing changes, something does. 2: unreadable or refused. 3: what FAIL_ON names.
  [ "$compared" -le 1 ] || status=1
done <<<"$(sort -u <<<"$names")"
exit "$status"
