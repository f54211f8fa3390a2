#!/usr/bin/env bash
# Prepare a checkout, and say what is being done. A second call finds its stamp and ends at once.
#   tools/setup.sh python        the virtual environment .venv, from requirements/dev.txt
#   tools/setup.sh test          what integration tests run against: Redis, an API server, wrk
#   tools/setup.sh e2e           what end-to-end tests run on: a Kubernetes node of our own
#   tools/setup.sh compiled      the data plane's compiled modules, in .compiled (a minute)
#   tools/setup.sh is-compiled   nothing; the exit status says whether .compiled is up to date
# PYTHON names the interpreter (3.11 or newer); SWITCHBOARD_CACHE the folder of what is built once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "setup: $*" >&2; }

# The folder is part of the stamp: a virtual environment does not survive being moved.
fingerprint() { { pwd; cat pyproject.toml requirements/dev.txt; } | cksum; }

install_system() { # PACKAGE…: with apt-get where we may, else the command for the person
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    say "installing $* with apt-get"
    # One broken repository among several must not keep the package away.
    "${as_root[@]}" apt-get update -q >/dev/null || say "apt-get update failed; going on"
    # RUNLEVEL=1: tests start a server of their own, the package must not start one.
    "${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
      apt-get install -qy --no-install-recommends "$@" >/dev/null && return
  fi
  say "missing: $*; install it, for example: sudo apt-get install $*"
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

# A cluster that is given takes what builds images, where Docker does not; one of our own much more.
setup_e2e() {
  local told missing
  told=$(PYTHONPATH=tests .venv/bin/python -m cluster.node.origins)
  read -ra missing <<<"${told#* }"
  [ "$told" = "${told%% *}" ] || install_system "${missing[@]}"
  PYTHONPATH=tests .venv/bin/python -m cluster.helm >/dev/null
  [ "${told%% *}" != own ] || PYTHONPATH=tests .venv/bin/python -m cluster.node.node build
}

# All that the compiled modules are made of: sources, settings, the compilers.
compiled_fingerprint() {
  {
    pwd
    .venv/bin/python -VV
    cat hatch_build.py pyproject.toml requirements/dev.txt
    find dataplane policy -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 cksum
  } | cksum
}

is_compiled() { [ "$(cat .compiled/.stamp 2>/dev/null)" = "$(compiled_fingerprint)" ]; }

setup_compiled() {
  is_compiled && return
  local now include made=.compiled.new
  now=$(compiled_fingerprint)
  command -v cc >/dev/null || install_system gcc libc6-dev
  include=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [ -e "$include/Python.h" ] || install_system python3-dev
  say "compiling the data plane's hot path (about a minute)"
  rm -rf "$made"
  mkdir "$made"
  HATCH_BUILD_HOOK_ENABLE_CUSTOM=true .venv/bin/python -m hatchling build -t wheel -d "$made" \
    >"$made/log" 2>&1 || { cat "$made/log" >&2; say "the data plane does not compile"; return 1; }
  .venv/bin/python -m zipfile -e "$made"/*.whl "$made"
  # The other packages are as they are in the tree; a copy of them would only grow old.
  find "$made" -mindepth 1 -maxdepth 1 ! -name 'switchboard_dataplane*' -exec rm -rf {} +
  printf '%s\n' "$now" >"$made/.stamp"
  rm -rf .compiled
  mv "$made" .compiled
}

case ${1:-} in
  python) setup_python ;;
  test)
    setup_python
    setup_test
    ;;
  e2e)
    setup_python
    setup_e2e
    ;;
  compiled)
    setup_python
    setup_compiled
    ;;
  is-compiled) is_compiled ;;
  *)
    sed -n '2,8p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
