#!/bin/sh
# Makes this machine ready to run personaplex from this folder. Says what it does, and nothing when all is there.
#
#   scripts/setup.sh          what personaplex needs: libraries, .venv, the package in it
#   scripts/setup.sh dev      also the development tools, in .venv
#   scripts/setup.sh test     also the programs that some tests use; without them those tests are skipped
#
# PYTHON=python3.12 names the Python that a new .venv is made with; without it, the first that is new enough.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.installed
dev_stamp=$venv/.installed-dev

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# Shows a command's output only if it fails.
quietly() {
    output=$("$@" 2>&1 </dev/null) && return
    printf '%s\n' "$output" >&2
    return 1
}

# ---- Python ------------------------------------------------------------------------------------------------

# The name on the PATH is not enough: version managers put names there that only say "not installed".
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON does not run, or is older than Python 3.11."
        python=$PYTHON
        return
    fi
    for python in python3 python3.13 python3.12 python3.11 python; do
        if is_new_enough "$python"; then return; fi
    done
    fail "Python 3.11 or newer is needed, and none was found." \
        "Install one, or say where it is: PYTHON=/path/to/python3 make setup"
}

# ---- Packages of the system --------------------------------------------------------------------------------

find_manager() {
    for manager in apt-get dnf pacman apk brew; do
        if command -v "$manager" >/dev/null 2>&1; then return; fi
    done
    manager=
}

# The install command for packages, as arguments. Nothing that is installed is ever removed for it (pacman and
# dnf refuse by themselves when not asked).
install_command() {
    case $manager in
    apt-get) echo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --no-remove "$@" ;;
    dnf) echo dnf install -q -y "$@" ;;
    pacman) echo pacman -S --needed --noconfirm "$@" ;;
    apk) echo apk add --quiet --no-cache "$@" ;;
    brew) echo brew install --quiet "$@" ;;
    esac
}

# The command that fetches the lists of what can be installed, or nothing where installing does that itself.
refresh_command() {
    case $manager in
    apt-get) echo apt-get update -q ;;
    pacman) echo pacman -Sy ;;
    esac
}

has_lists() { [ "$manager" != apt-get ] || [ -n "$(find /var/lib/apt/lists -name '*_Packages*' 2>/dev/null | head -n 1)" ]; }

# install PACKAGE...: returns 1 if that was not possible, having said why.
install() {
    if [ "$manager" = brew ] || [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        say "$* cannot be installed without root. Let an administrator run:" >&2
        say "    $(install_command "$@")" >&2
        return 1
    fi
    say "installing $* (${as_root:+$as_root }$manager)"
    # The commands are lists of plain words, meant to be split.
    # shellcheck disable=SC2046,SC2086
    if has_lists && (quietly $as_root $(install_command "$@")) 2>/dev/null; then
        return
    fi
    # Out of date, or empty as in a new container.
    # shellcheck disable=SC2046,SC2086
    if [ -n "$(refresh_command)" ]; then quietly $as_root $(refresh_command) || return 1; fi
    # shellcheck disable=SC2046,SC2086
    quietly $as_root $(install_command "$@")
}

# ---- libopus, libogg, libportaudio -------------------------------------------------------------------------

# Prints the names of those that cannot be loaded. On macOS PortAudio comes with the sounddevice package.
missing_libraries() {
    "$python" - <<'END'
import ctypes
import ctypes.util
import os
import sys

HOMEBREW = [os.path.join(prefix, "lib") for prefix in ("/opt/homebrew", "/usr/local")]
SONAMES = {"opus": "libopus.so.0", "ogg": "libogg.so.0", "portaudio": "libportaudio.so.2"}


def candidates(name: str):
    if sys.platform == "darwin":
        yield from (os.path.join(folder, f"lib{name}.dylib") for folder in HOMEBREW)
    else:
        yield SONAMES[name]
    yield ctypes.util.find_library(name)  # slow, so only if the others fail


def loadable(name: str) -> bool:
    for path in filter(None, candidates(name)):
        try:
            ctypes.CDLL(path)
            return True
        except OSError:
            pass
    return False


needed = [name for name in SONAMES if not (name == "portaudio" and sys.platform == "darwin")]
print(*(f"lib{name}" for name in needed if not loadable(name)))
END
}

set_up_libraries() {
    missing=$(missing_libraries)
    if [ -z "$missing" ]; then return; fi
    case $manager in
    apt-get) set -- libopus0 libogg0 libportaudio2 ;;
    dnf | pacman) set -- opus libogg portaudio ;;
    apk) set -- opus libogg portaudio libsndfile ;; # the soundfile package brings libsndfile along for glibc only
    brew) set -- opus libogg ;;
    *) fail "missing: $missing. No package manager known here (apt-get, dnf, pacman, apk, brew):" \
        "install libopus, libogg and libportaudio by hand, then run this again." ;;
    esac
    install "$@" || fail "not installed: $missing"
    missing=$(missing_libraries)
    [ -z "$missing" ] || fail "installed, but $python cannot load: $missing"
}

# ---- .venv and the package in it ---------------------------------------------------------------------------

wanted_stamp() { printf '%s\n%s\n' "$PWD" "$(cksum <pyproject.toml)"; }

# A virtual environment holds absolute paths: it works only where it was made.
is_usable_venv() {
    [ -x $venv/bin/python ] && [ -e $venv/bin/pip ] && is_new_enough $venv/bin/python &&
        { [ ! -e $stamp ] || [ "$(head -n 1 $stamp)" = "$PWD" ]; }
}

make_venv() {
    # Debian and Ubuntu keep these in a package of their own.
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        [ "$manager" = apt-get ] || fail "$python has no venv or ensurepip module; install it, or name another PYTHON."
        install "python$version-venv" || fail "not installed: python$version-venv"
    fi
    say "making $venv with $("$python" --version)"
    quietly "$python" -m venv --clear $venv || fail "$venv could not be made"
}

# set_up_package REQUIREMENT STAMP WHAT
set_up_package() {
    if [ -e "$2" ] && [ "$(cat "$2")" = "$(wanted_stamp)" ]; then return; fi
    say "installing $3 into $venv"
    # use-pep517: pyogg comes as source, and older pips complain about building it the way they do by default.
    $venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --use-pep517 \
        -e "$1" </dev/null ||
        fail "pip could not install everything; its message is above"
    wanted_stamp >"$2"
}

# ---- Tools for tests: tried, never insisted on -------------------------------------------------------------

set_up_opus_tools() {
    if command -v opusenc >/dev/null 2>&1 && command -v opusdec >/dev/null 2>&1; then return; fi
    if [ -n "$manager" ] && install opus-tools; then return; fi
    say "no opus-tools: the tests that compare with them will be skipped"
}

# What lets ALSA, and by it PortAudio, speak to PulseAudio.
has_alsa_plugin() {
    for folder in /usr/lib/alsa-lib /usr/lib64/alsa-lib /usr/lib/*/alsa-lib; do
        if [ -e "$folder/libasound_module_pcm_pulse.so" ]; then return; fi
    done
    return 1
}

set_up_virtual_sound_card() {
    if [ "$(uname -s)" != Linux ]; then return; fi
    if has_alsa_plugin && command -v pulseaudio >/dev/null 2>&1 && command -v pactl >/dev/null 2>&1; then return; fi
    case $manager in
    apt-get) set -- pulseaudio pulseaudio-utils libasound2-plugins ;;
    dnf) set -- pulseaudio pulseaudio-utils alsa-plugins-pulseaudio ;;
    pacman) set -- pulseaudio alsa-plugins ;;
    apk) set -- pulseaudio pulseaudio-utils alsa-plugins-pulse ;;
    *) set -- ;;
    esac
    # A desktop that runs on PipeWire keeps its sound as it is: a second sound server would get in its way.
    if ! command -v pipewire >/dev/null 2>&1 && [ $# -gt 0 ] && install "$@"; then return; fi
    say "no PulseAudio: the tests on a virtual sound card will be skipped"
}

# ------------------------------------------------------------------------------------------------------------

case ${1:-} in
'' | dev | test) ;;
*) fail "usage: scripts/setup.sh [dev | test]" ;;
esac

find_manager
if is_usable_venv; then
    python=$venv/bin/python
    set_up_libraries
else
    find_python
    set_up_libraries
    make_venv
fi
set_up_package . "$stamp" personaplex
if [ -z "${1:-}" ]; then exit; fi
set_up_package '.[dev]' "$dev_stamp" "the development tools"
if [ "$1" = test ]; then
    set_up_opus_tools
    set_up_virtual_sound_card
fi
