#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing (Debian packages) and builds build/bin/indexshare. Says nothing about what is already there.
#   ./setup.sh            the program
#   ./setup.sh TARGET...  other targets of the build, e.g. all
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

packages=(
  g++ cmake ninja-build pkg-config                                  # tools
  nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev          # libraries
  libpcre2-dev libhwy-dev
  libgtest-dev librapidcheck-dev python3 python3-numpy python3-jinja2 # tests
)

install_missing() {
  local installed missing=() package as_root=()
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
  for package in "${packages[@]}"; do
    grep -qxF "installed $package" <<<"$installed" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if (($(id -u) != 0)); then
    command -v sudo >/dev/null || { echo "setup: as root, run: apt-get install ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "setup: installing ${missing[*]}"
  local log
  log=$(mktemp)
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    echo "setup: installing failed" >&2
    exit 1
  fi
  rm -f "$log"
}

# A build folder configured elsewhere (the checkout was moved or copied) starts afresh.
configure() {
  local fresh=()
  if [[ -f build/CMakeCache.txt ]]; then
    grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" build/CMakeCache.txt || fresh=(--fresh)
    if [[ -f build/build.ninja && ${#fresh[@]} == 0 ]]; then return 0; fi
  fi
  cmake "${fresh[@]}" -G Ninja -S . -B build -DCMAKE_BUILD_TYPE=Release
}

# Runs a step quietly; its output appears only if it fails.
quietly() {
  mkdir -p build
  if ! "$@" >build/setup.log 2>&1 </dev/null; then
    cat build/setup.log >&2
    echo "setup: $1 failed" >&2
    exit 1
  fi
}

build() {
  [[ -f build/.ninja_log ]] || echo "setup: building (the first time takes minutes)"
  quietly ninja -C build "$@"
}

command -v dpkg-query >/dev/null && install_missing
quietly configure
build "${@:-indexshare_cli}"
