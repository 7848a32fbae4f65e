#!/bin/sh
# A sound card made of software, for machines that have none: a private PulseAudio daemon, reached by PortAudio
# through ALSA's "pulse" plugin. Needs no /dev/snd, no desktop session, and may run as root.
#
#   scripts/virtual_audio.sh run CMD...        run CMD with the card; exits as CMD does
#   scripts/virtual_audio.sh start             start the card, print the file that holds its environment:
#                                              . that file before a program starts
#   scripts/virtual_audio.sh status            "running PID" (exit status 0) or "stopped" (1)
#   scripts/virtual_audio.sh echo on [MS [DB]] what the speaker plays comes back at the microphone, MS (40) later
#   scripts/virtual_audio.sh echo off          and DB (-10) louder, as in a room; off: it does not
#   scripts/virtual_audio.sh stop              stop the card
#
# The card has a default output "speaker" (record it from "speaker.monitor": parec --device=speaker.monitor) and a
# default input "mic", which hears what is played into "micfeed" (paplay --device=micfeed question.wav).
#
# VAUDIO_DIR (default /tmp/vaudio-UID) is the card's folder; cards in different folders run side by side.
# VAUDIO_RATE (default 48000) is its sample rate.
# Debian and Ubuntu: pulseaudio pulseaudio-utils libasound2-plugins (scripts/setup.sh test installs them).
set -eu

dir=${VAUDIO_DIR:-/tmp/vaudio-$(id -u)}
rate=${VAUDIO_RATE:-48000}
socket=$dir/native
ready_s=10 # the daemon takes 0.1 to 0.3 s
stop_s=5

fail() {
    echo "virtual_audio: $*" >&2
    exit 1
}

# Waits up to SECONDS for a command to succeed.
wait_for() {
    tries=$(($1 * 20))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.05
    done
}

with_card() (
    # shellcheck source=/dev/null
    . "$dir/env"
    exec "$@"
)

# True while our daemon runs. kill -0 is not enough: where nobody reaps children (containers) a dead one still
# answers it, as a zombie (Z), and a process number left over in the file may belong to another program by now.
is_running() {
    [ -s "$dir/pid" ] || return 1
    read -r pid <"$dir/pid"
    case $(sed -n 's/^[0-9]* (pulseaudio) \(.\).*/\1/p' "/proc/$pid/stat" 2>/dev/null) in
    '' | Z) return 1 ;;
    esac
}

is_stopped() { ! is_running; }

answers() { with_card timeout 2 pactl get-default-source 2>/dev/null | grep -qx mic; }

# Ready, or ended before it was: both end the waiting.
is_decided() { is_stopped || answers; }

write_environment() {
    cat >"$dir/env" <<END
export VAUDIO_DIR='$dir'
export XDG_RUNTIME_DIR='$dir' PULSE_RUNTIME_PATH='$dir' PULSE_STATE_PATH='$dir/state'
export PULSE_SERVER='unix:$socket' PULSE_COOKIE='$dir/cookie'
export PULSE_CONFIG='$dir/daemon.conf' PULSE_CLIENTCONFIG='$dir/client.conf'
export ALSA_CONFIG_PATH='$dir/asound.conf'
unset DISPLAY DBUS_SESSION_BUS_ADDRESS PULSE_SINK PULSE_SOURCE
END
}

write_configuration() {
    # All PortAudio gets to see: no hardware, JACK or OSS of this machine to search.
    # Whole at once: a program that outlived the last daemon may be reading it.
    cat >"$dir/asound.new" <<END
pcm.pulse { type pulse }
ctl.pulse { type pulse }
pcm.default { type pulse }
ctl.default { type pulse }
END
    mv "$dir/asound.new" "$dir/asound.conf"
    # Never a daemon that starts by itself; no shared memory, which containers limit.
    printf '%s = no\n' autospawn enable-shm >"$dir/client.conf"
    printf '%s = no\n' enable-shm flat-volumes high-priority realtime-scheduling >"$dir/daemon.conf"
    cat >>"$dir/daemon.conf" <<END
default-sample-format = s16le
default-sample-channels = 1
default-sample-rate = $rate
alternate-sample-rate = $rate
END
    # norewinds: otherwise a null sink renders 2 s ahead and rewinds when a program joins, and the first second
    # of what that plays never reaches the monitor.
    sink="module-null-sink rate=$rate channels=1 channel_map=mono norewinds=1"
    cat >"$dir/card.pa" <<END
.fail
load-module $sink sink_name=speaker sink_properties=device.description=VirtualSpeaker
load-module $sink sink_name=micfeed sink_properties=device.description=MicrophoneFeed
load-module module-remap-source source_name=mic master=micfeed.monitor channels=1 channel_map=mono remix=no source_properties=device.description=VirtualMicrophone
load-module module-native-protocol-unix socket=$socket auth-anonymous=1 auth-cookie-enabled=0
set-default-sink speaker
set-default-source mic
END
}

start() {
    if is_running; then return; fi
    for tool in pulseaudio pactl timeout setsid; do
        command -v $tool >/dev/null || fail "$tool is not installed"
    done
    [ ${#dir} -le 80 ] || fail "VAUDIO_DIR is too long for a socket's address (80 characters at most): $dir"
    mkdir -p "$dir/state"
    chmod 700 "$dir"
    rm -f "$socket" "$dir/pid"
    write_environment
    write_configuration
    # HOME: PulseAudio wants one it can write to. setsid: Ctrl-C in the terminal is not meant for it.
    # exec: a redirection of the command alone would leave our output open in the shell that waits for it, and
    # whoever reads that would wait for the daemon.
    # shellcheck disable=SC2016 # $$ and $1 are the inner shell's, whose process becomes the daemon
    (
        exec </dev/null >"$dir/log" 2>&1
        HOME=$dir with_card setsid sh -c 'echo $$ >"$1/pid"
            exec pulseaudio -n --file="$1/card.pa" --daemonize=no --use-pid-file=no --exit-idle-time=-1 \
                --log-target=stderr' daemon "$dir"
    ) &
    wait_for 1 is_running || :
    wait_for $ready_s is_decided || :
    if is_running && answers; then return; fi
    cat "$dir/log" >&2
    stop
    fail "PulseAudio did not start; what it said is above"
}

stop() {
    if is_running; then
        kill "$pid"
        wait_for $stop_s is_stopped || kill -9 "$pid" || :
    fi
    rm -f "$dir/pid" "$socket"
}

status() {
    is_running || {
        echo stopped
        return 1
    }
    echo "running $pid"
}

run() {
    [ $# -gt 0 ] || fail "run what?"
    if is_running; then # someone else's: it stays up
        with_card "$@"
        return
    fi
    trap stop EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    start
    with_card "$@"
}

set_echo() {
    is_running || fail "not running"
    for module in $(with_card pactl list short modules | awk '$2 == "module-loopback" { print $1 }'); do
        with_card pactl unload-module "$module"
    done
    if [ "$1" = off ]; then return; fi
    with_card pactl load-module module-loopback source=speaker.monitor sink=micfeed latency_msec="${2:-40}" \
        rate="$rate" channels=1 adjust_time=0 source_dont_move=true sink_dont_move=true >/dev/null
    loop=$(with_card pactl list short sink-inputs | awk '/module-loopback/ { print $1; exit }')
    with_card pactl set-sink-input-volume "$loop" "${3:--10}dB"
}

case ${1:-} in
run)
    shift
    run "$@"
    ;;
start)
    start
    echo "$dir/env"
    ;;
status) status ;;
echo)
    case ${2:-} in
    on | off) shift && set_echo "$@" ;;
    *) fail "echo on [MS [DB]] or echo off" ;;
    esac
    ;;
stop) stop ;;
*)
    sed -n '/^#!/d; s/^# \{0,1\}//p; /^set/q' "$0"
    exit 2
    ;;
esac
