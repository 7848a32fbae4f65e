#!/bin/sh
# Makes the spoken clips anew: what the stand-in says, each with the times of its words, and the question of
# `make demo`. The results are part of the repository; run this only to change them.
# Needs python3, espeak-ng (the library does the work), sox, and opusenc from opus-tools.
set -eu
cd "$(dirname "$0")/.."

LEVEL_DBFS=-20 # RMS, about that of someone speaking close to a microphone
OPUS_SERIAL=1  # a fixed one, so that the same speech makes the same file
GREETING_S=3.6 # the stand-in's greeting takes 3.2 s, and it stops at once when somebody speaks into it

for tool in python3 sox opusenc; do
    command -v $tool >/dev/null || { echo "make_speech: $tool is not installed" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# speak VOICE WORDS_PER_MINUTE TEXT WAV WORDS: writes the speech, and "start_ms<TAB>word" for each word.
# By the library, as its program does not tell when a word begins.
speak() {
    python3 - "$@" <<'END'
import ctypes
import re
import sys
import wave

voice, rate_wpm, text, wav_path, words_path = sys.argv[1:]
RETRIEVE_AUDIO, RATE_PARAMETER, POSITION_IS_CHARACTER, UTF8, WORD_EVENT = 2, 1, 1, 1, 1


class Event(ctypes.Structure):  # espeak_EVENT of speak_lib.h
    _fields_ = [
        ("type", ctypes.c_int),
        ("message", ctypes.c_uint),
        ("position", ctypes.c_int),  # of the word's first character, counted from 1
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


speech = bytearray()
starts_ms = {}  # by position in the text, counted from 0


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Event))
def collect(samples, count, events):
    if samples:
        speech.extend(ctypes.string_at(samples, 2 * count))
    index = 0
    while events[index].type:
        if events[index].type == WORD_EVENT:
            starts_ms[events[index].position - 1] = events[index].audio_ms
        index += 1
    return 0


espeak = ctypes.CDLL("libespeak-ng.so.1")
sample_rate = espeak.espeak_Initialize(RETRIEVE_AUDIO, 0, None, 0)
espeak.espeak_SetSynthCallback(collect)
if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
    sys.exit(f"make_speech: espeak-ng has no voice {voice}")
espeak.espeak_SetParameter(RATE_PARAMETER, int(rate_wpm), 0)
data = text.encode()
espeak.espeak_Synth(data, len(data) + 1, 0, POSITION_IS_CHARACTER, 0, UTF8, None, None)
espeak.espeak_Synchronize()

with wave.open(wav_path, "wb") as wav:
    wav.setnchannels(1)
    wav.setsampwidth(2)
    wav.setframerate(sample_rate)
    wav.writeframes(speech)

# The library speaks some pairs ("I am") as one word: the second one's start is put between its neighbours'.
starts_ms[len(text)] = len(speech) * 1000 // (2 * sample_rate)
with open(words_path, "w", encoding="utf-8") as words:
    for word in re.finditer(r"\S+", text):
        before = max(at for at in starts_ms if at <= word.start())
        after = min(at for at in starts_ms if at > word.start())
        share = (word.start() - before) / (after - before)
        start_ms = starts_ms[before] + share * (starts_ms[after] - starts_ms[before])
        words.write(f"{start_ms:.0f}\t{word[0]}\n")
END
}

# clip VOICE WORDS_PER_MINUTE TEXT OPUS WORDS [SILENCE_S]: 24 kHz, mono, packets of 20 ms; silence goes first.
clip() {
    speak "$1" "$2" "$3" "$work/spoken.wav" "$5"
    rms=$(sox "$work/spoken.wav" -n stats 2>&1 | awk '/^RMS lev dB/ { print $4 }')
    gain=$(awk -v want=$LEVEL_DBFS -v have="$rms" 'BEGIN { print want - have }')
    sox -R "$work/spoken.wav" -b 16 "$work/clip.wav" gain "$gain" rate -v 24000 pad "${6:-0}"
    mkdir -p "$(dirname "$4")"
    opusenc --quiet --speech --bitrate 24 --framesize 20 --padding 0 --serial $OPUS_SERIAL "$work/clip.wav" "$4"
    echo "$4: $(soxi -D "$work/clip.wav") s, $(wc -c <"$4") bytes"
}

clips=personaplex_cli/standin/clips
clip en-us 175 'Hello! I am the stand-in. I repeat what you say.' $clips/greeting.opus $clips/greeting.txt
clip en-us 175 'I have read that.' $clips/noted.opus $clips/noted.txt
clip en+f3 160 'What can you do for me today?' examples/question.opus "$work/unused.txt" $GREETING_S
