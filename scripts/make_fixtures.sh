#!/bin/sh
# Makes tests/fixtures/ogg anew, Ogg/Opus streams of an encoder that is not ours, and the voices in
# tests/fixtures/echo. The results are part of the repository; run this only to change them. Needs espeak-ng, sox,
# and opusenc from opus-tools.
set -eu
cd "$(dirname "$0")/../tests/fixtures/ogg"

SECONDS_LONG=0.6

for tool in espeak-ng sox opusenc; do
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

# The two voices of tests/echo_room.py.
cd ../echo

# voice NAME VOICE WORDS_PER_MINUTE TEXT
voice() {
    espeak-ng -v "$2" -s "$3" -w "$work/spoken.wav" "$4"
    sox -R "$work/spoken.wav" -b 16 "$work/$1.wav" rate -v 24000 gain -n -3
    opusenc --quiet --speech --bitrate 16 --framesize 20 --padding 0 --serial 42 "$work/$1.wav" "$1.opus"
    echo "$1.opus: $(wc -c <"$1.opus") bytes"
}

voice far en-us 165 'Good morning, and thank you for calling the harbour office. The ferry to the northern islands
leaves at a quarter past nine from pier four, and it stops twice on its way. Please be there twenty minutes before,
since the gate closes early when the wind is strong. Dogs may come along, bicycles cost two pounds each.'
voice near en-gb+f3 160 'Wait, sorry, may I ask about something else? I would like to know if there is a later boat
on Sunday, and whether I can bring my own food on board.'
