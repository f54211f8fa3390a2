#!/usr/bin/env bash
# Prepare a checkout, and say what is being done. A second call finds its stamp and ends at once.
#   tools/setup.sh python   the virtual environment .venv, from requirements/dev.txt
#   tools/setup.sh test     what integration tests run against: Redis, a Kubernetes API server, wrk
# PYTHON names the interpreter (3.11 or newer); SWITCHBOARD_CACHE the folder of what is built once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "setup: $*" >&2; }

# The folder is part of the stamp: a virtual environment does not survive being moved.
fingerprint() { { pwd; cat pyproject.toml requirements/dev.txt; } | cksum; }

install_system() { # PACKAGE: with apt-get where we may, else the command for the person
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    say "installing $1 with apt-get"
    # One broken repository among several must not keep the package away.
    "${as_root[@]}" apt-get update -q >/dev/null || say "apt-get update failed; going on"
    # RUNLEVEL=1: tests start a server of their own, the package must not start one.
    "${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
      apt-get install -qy --no-install-recommends "$1" >/dev/null && return
  fi
  say "$1 is missing; install it, for example: sudo apt-get install $1"
  return 1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    elif [ "$candidate" = "${PYTHON:-}" ]; then
      say "PYTHON=$PYTHON is not Python 3.11 or newer"
      return 1
    fi
  done
  say "no Python 3.11 or newer on PATH; set PYTHON to one"
  return 1
}

setup_python() {
  local stamp=.venv/.setup-stamp now
  now=$(fingerprint)
  [ "$(cat "$stamp" 2>/dev/null)" = "$now" ] && return
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    local python
    python=$(find_python)
    say "making the virtual environment .venv with $("$python" --version)"
    "$python" -c 'import ensurepip' 2>/dev/null || install_system python3-venv
    "$python" -m venv --clear .venv
  fi
  say "installing $(grep -c '==' requirements/dev.txt) pinned packages (about a minute the first time)"
  .venv/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements/dev.txt
  say "installing Switchboard itself, editable"
  .venv/bin/python -m pip install --quiet --no-build-isolation --no-deps -e .
  printf '%s\n' "$now" >"$stamp"
  say "ready"
}

setup_test() {
  local missing=0
  if ! command -v redis-server >/dev/null && ! command -v valkey-server >/dev/null; then
    install_system redis-server || missing=1
  fi
  command -v wrk >/dev/null || install_system wrk || missing=1
  PYTHONPATH=tests .venv/bin/python -m cluster.control_plane || missing=1
  PYTHONPATH=tests .venv/bin/python -m cluster.helm || missing=1
  [ "$missing" = 0 ] && return
  if [ -n "${CI:-}" ]; then return 1; fi
  say "WARNING: integration tests that need what is missing will be skipped"
}

case ${1:-} in
  python) setup_python ;;
  test) setup_python && setup_test ;;
  *)
    sed -n '2,5p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
