#!/usr/bin/env bash
# Run a command, then fail if it changed the tree: what is generated or formatted belongs in it.
# In CI the tree must also be clean before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
  printf 'check: not a git checkout, so changed files cannot be seen\n' >&2
  exec "$@"
fi

state() { git status --porcelain && git diff; }

before=$(state)
if [ -n "${CI:-}" ] && [ -n "$before" ]; then
  printf 'check: the tree is not clean:\n%s\n' "$before" >&2
  exit 1
fi
"$@"
if [ "$(state)" != "$before" ]; then
  git --no-pager diff
  git status --short
  printf 'check: files changed, see above; commit them if they are right\n' >&2
  exit 1
fi
