#!/bin/sh
# Makes tests/fixtures/room anew: two rooms without a voice in them, to be played in a loop. One is quiet
# (-60 dBFS), one noisy (-50 to -38 dBFS): ventilation, traffic that swells, somebody who types, a door.
# The results are part of the repository; run this only to change them. Needs sox, and opusenc from opus-tools.
set -eu
cd "$(dirname "$0")/.."
folder=tests/fixtures/room

SECONDS_LONG=19

for tool in sox opusenc; do
    command -v $tool >/dev/null || { echo "make_room_noise: $tool is not installed" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p $folder

# The same noise each time (-R), and no dither (-D), which would be noise of its own.
quietly() { sox -R -D "$@"; }

# part NAME DBFS SYNTH_AND_EFFECTS...: as floats, and with this RMS level while it sounds.
part() {
    name=$1 dbfs=$2
    shift 2
    quietly -r 24000 -c 1 -b 32 -e floating-point -n "$work/raw.wav" "$@"
    rms=$(sox "$work/raw.wav" -n stats 2>&1 | awk '/^RMS lev dB/ { print $4 }')
    quietly "$work/raw.wav" "$work/$name.wav" gain "$(awk -v want="$dbfs" -v have="$rms" 'BEGIN { print want - have }')"
}

# at SECONDS NAME: adds the part to the list of what happens in the noisy room.
at() {
    number=$((number + 1))
    quietly "$work/$2.wav" "$work/event-$number.wav" pad "$1"
    events="$events -v 1 $work/event-$number.wav"
}

# encode NAME KBPS
encode() {
    opusenc --quiet --bitrate "$2" --framesize 20 --padding 0 --serial 42 "$work/$1.wav" "$folder/$1.opus"
    echo "$folder/$1.opus: $(soxi -D "$work/$1.wav") s, $(wc -c <"$folder/$1.opus") bytes"
}

part fan -50 synth $SECONDS_LONG pinknoise lowpass 900
part hum -54 synth $SECONDS_LONG sine 100
part street -43 synth $SECONDS_LONG brownnoise highpass 50 lowpass 500 tremolo 0.158 80 # three cars in 19 s
part key -28 synth 0.012 whitenoise vol 0.5 highpass 800 fade 0.001 0.012 0.010
part door -24 synth 0.09 brownnoise vol 0.5 highpass 60 lowpass 300 fade 0.003 0.09 0.085
part rest -56.5 synth $SECONDS_LONG pinknoise lowpass 3000 # of which the encoder leaves -60

number=0 events=
for s in 2.1 2.24 2.43 2.52 2.71 3.3 3.38 3.55 3.71 10.2 10.31 10.49 10.6 11.4 11.49 11.71; do at $s key; done
at 14.4 door
# shellcheck disable=SC2086  # the list is one of words
quietly -m -v 1 "$work/fan.wav" -v 1 "$work/hum.wav" -v 1 "$work/street.wav" $events -b 16 "$work/noisy.wav"
quietly "$work/rest.wav" -b 16 "$work/quiet.wav"

encode noisy 19
encode quiet 8
