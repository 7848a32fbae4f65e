"""Sound devices: `listing` finds them, `stream` keeps one going, `portaudio` and `pulse` are the two ways to
one. A stream of PortAudio's, or a pair of programs where PortAudio sees nothing."""
