#!/usr/bin/env bash
# Debian's Chromium, for tests/browser, where none is there yet. Needs root and Debian to install it.
set -euo pipefail

main() {
    if found=$(command -v chromium chromium-browser google-chrome | head -n 1) && [[ $found ]]; then
        echo "a browser is there: $found"
        return
    fi
    [[ $(id -u) == 0 ]] || die "installing Chromium needs root"
    command -v apt-get >/dev/null || die "Chromium is not installed, and there is no apt-get to do it"
    export DEBIAN_FRONTEND=noninteractive
    local packages=(chromium fonts-dejavu-core)
    apt_get install "${packages[@]}" || { apt_get update && apt_get install "${packages[@]}"; } ||
        die "apt-get could not install ${packages[*]}"
    echo "a browser is there: $(command -v chromium)"
}

apt_get() {
    apt-get -qq --yes --no-install-recommends "$@" >/dev/null
}

die() {
    echo "chromium.sh: $1" >&2
    exit 1
}

main
