#!/bin/sh
# Makes tests/fixtures/ogg anew: Ogg/Opus streams of an encoder that is not ours. The results are part of the
# repository; run this only to change them. Needs sox, and opusenc from opus-tools.
set -eu
cd "$(dirname "$0")/../tests/fixtures/ogg"

SECONDS_LONG=0.6

for tool in sox opusenc; do
    command -v $tool >/dev/null || { echo "make_fixtures: $tool is not installed" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# tests/codec/test_stream.py computes the same sweeps. Stereo: one up, one down.
sox -R -D -r 24000 -b 16 -n "$work/mono.wav" synth $SECONDS_LONG sine 300:3000 vol 0.5
sox -R -D -r 24000 -b 16 -n "$work/down.wav" synth $SECONDS_LONG sine 3000:300 vol 0.5
sox -R -D -M "$work/mono.wav" "$work/down.wav" "$work/stereo.wav"

# stream CHANNELS PACKET_MS PAGE_MS: serial number and padding are fixed, so that the files come out the same.
stream() {
    opusenc --quiet --bitrate 24 --framesize "$2" --max-delay "$3" --padding 0 --serial 42 \
        "$work/$1.wav" "$1-$2ms.opus"
    echo "$1-$2ms.opus: $(wc -c <"$1-$2ms.opus") bytes"
}

stream mono 20 100  # five packets to a page
stream mono 40 40   # one
stream mono 60 1000 # all of them
stream stereo 20 80 # four
