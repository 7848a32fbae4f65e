"""The real program, as a process of its own, against the stand-in or a server that is not ours.

Calls take their real time, so all of them run at the same time, once, in the fixture `runs`; the tests look
at what came of them.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
import speech
from moshi_server import Heard, MoshiServer
from ogg_pages import RATE, STEP, Samples, likeness, to_pcm, to_samples
from sphn_client import MOSHI_PATH, calling, quiet

from personaplex_cli.errors import ExitCode
from personaplex_cli.standin.faults import parse_faults
from personaplex_cli.standin.server import StandIn

PATIENCE_S = 45.0
"""For a call that takes a few seconds; a loaded machine is slow."""

KEY = "pg_0123456789_of_nobody"
TOKEN = "good-token-0123456789"
BAD_TOKEN = "bad-token-0123456789"
JWT_BEGINS = "eyJ"
PERSONA = "Secretly you are a lighthouse keeper."

WINDOWS = sys.platform == "win32"
ORDERLY_SIGNALS = ("SIGINT", "SIGTERM")
SLOW_S = 4.0
"""More than it should take, on a loaded machine."""

ASIDE = re.compile(r"You: \(\d:\d\d: spoke for \d\.\d s\)")
"""Of the user, whose words nobody knows."""

TAIL = ("--tail", "1.4")
"""Longer than the stand-in waits before it answers, with time for a slow machine."""


@dataclass
class Run:
    """What came of one run of the program."""

    code: int = -1
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    folder: Path = Path()
    seconds: float = 0.0
    """From its first line to its end."""
    seconds_to_end: float = 0.0
    """From the (last) signal to its end."""
    arguments: list[str] = field(default_factory=list)
    children: str = ""
    heard: Heard | None = field(default=None, repr=False)

    @property
    def status(self) -> str:
        """What is on stderr."""
        return self.err.decode()

    @property
    def transcript(self) -> str:
        """What the agent said, on one line."""
        lines = self.out.decode().splitlines()
        said = [line.removeprefix("Agent: ") for line in lines if not ASIDE.fullmatch(line)]
        return " ".join(" ".join(said).split())

    @property
    def call_heard(self) -> Heard:
        assert self.heard
        return self.heard

    def samples(self, name: str = "answer.wav") -> Samples:
        samples, rate = soundfile.read(self.folder / name, dtype="float32")
        assert rate == RATE
        result: Samples = samples
        return result


class Program:
    """The program while it runs."""

    def __init__(self, process: asyncio.subprocess.Process, run: Run) -> None:
        self.process = process
        self.run = run
        self._changed = asyncio.Condition()
        self._began_s = 0.0
        self._over = False

    async def said(self, text: bytes) -> None:
        """Waits until it is on stdout or stderr, or the program is over."""
        async with self._changed:
            await self._changed.wait_for(lambda: text in self.run.err or text in self.run.out or self._over)

    async def follow(self) -> None:
        """Reads both outputs, so that the program never waits for us, until it is over."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            self._read(self.process.stdout, self.run.out), self._read(self.process.stderr, self.run.err)
        )
        self.run.code = await self.process.wait()
        self.run.seconds = loop.time() - self._began_s
        async with self._changed:
            self._over = True
            self._changed.notify_all()

    async def _read(self, stream: asyncio.StreamReader | None, into: bytearray) -> None:
        while stream and (data := await stream.read(1 << 16)):
            async with self._changed:
                self._began_s = self._began_s or asyncio.get_running_loop().time()
                into += data
                self._changed.notify_all()

    async def interrupt(self, number: signal.Signals) -> None:
        """Sends a signal, and takes the time to the end."""
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        self.process.send_signal(number)
        await self.process.wait()
        self.run.seconds_to_end = loop.time() - sent_s

    def look_at_processes(self) -> None:
        """What anybody on this machine can see of it (Linux)."""
        folder = Path(f"/proc/{self.process.pid}")
        if folder.exists():
            self.run.arguments = (folder / "cmdline").read_text().split("\0")
            self.run.children = "".join(file.read_text() for file in folder.glob("task/*/children"))


Play = Callable[[Program], Awaitable[None]]


class Stage:
    """Starts runs of the program, in folders of their own, a few at a time."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        # Starting takes the processor; a call hardly does.
        self._starting = asyncio.Semaphore(os.cpu_count() or 1)
        self.runs: dict[str, Run] = {}
        self.tokens: list[str] = []
        self._prepare_inputs()

    def _prepare_inputs(self) -> None:
        question = speech.question()
        # Another rate, two channels: what a file may be.
        stereo = np.repeat(_resampled(question, 16_000)[:, None], 2, axis=1)
        soundfile.write(self._folder / "question.wav", stereo, 16_000)
        soundfile.write(self._folder / "silence.flac", quiet(60), RATE)
        soundfile.write(self._folder / "short.wav", question[: RATE // 2], RATE)
        soundfile.write(self._folder / "long.flac", np.concatenate([question, quiet(60)]), RATE)
        (self._folder / "persona.txt").write_text(PERSONA, "utf-8")

    def input(self, name: str) -> str:
        return str(self._folder / name)

    async def standin(self, *faults: str) -> StandIn:
        return await self._stack.enter_async_context(KnownStandIn(self.tokens, list(faults)))

    async def moshi(self, **shape: Any) -> MoshiServer:
        return await self._stack.enter_async_context(MoshiServer(**shape))

    async def run(
        self,
        name: str,
        *arguments: str,
        stdin: bytes | None = None,
        play: Play | None = None,
        server: MoshiServer | None = None,
        nobody_reads: bool = False,
        **environment: str,
    ) -> None:
        """One run of the program. `play` is what its user does meanwhile, `server` what it talks to."""
        folder = self._folder / name
        folder.mkdir()
        run = self.runs[name] = Run(folder=folder)
        async with self._starting:
            stdout = _pipe_that_nobody_reads() if nobody_reads else asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "personaplex_cli", *arguments),
                stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
                stdout=stdout,
                stderr=asyncio.subprocess.PIPE,
                cwd=folder,
                env=_environment(folder, environment),
            )
            if nobody_reads:
                os.close(stdout)
            program = Program(process, run)
            following = asyncio.create_task(program.follow())
            if process.stdin and stdin is not None:
                process.stdin.write(stdin)
                process.stdin.close()
            await program.said(b"\n")
        if play:
            await play(program)
        await following
        if server:
            run.heard = await server.until(lambda heard: heard.close_code is not None)

    async def talk(self, name: str, *arguments: str, **how: Any) -> None:
        await self.run(name, "talk", *arguments, **how)


class KnownStandIn(StandIn):
    """Keeps the tokens it has issued."""

    def __init__(self, tokens: list[str], faults: list[str]) -> None:
        super().__init__(parse_faults(faults))
        self._tokens = tokens

    def issue_token(self) -> str:
        token = super().issue_token()
        self._tokens.append(token)
        return token


def _resampled(samples: Samples, rate: int) -> Samples:
    import soxr

    result: Samples = soxr.resample(samples, RATE, rate)
    return result


def _pipe_that_nobody_reads() -> int:
    read_end, write_end = os.pipe()
    os.close(read_end)
    return write_end


def _environment(folder: Path, extra: dict[str, str]) -> dict[str, str]:
    """Ours, without anything that says how to call, and with an empty home folder."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PERSONAPLEX_", "POLARGRID_", "XDG_", "SSL_CERT_", "PYTHON", "COV"))
        and not name.lower().endswith("_proxy")
    }
    home = str(folder)
    return {
        **kept,
        **{name: home for name in ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA")},
        "PERSONAPLEX_CONFIG": str(folder / "config.toml"),
        "PERSONAPLEX_CACHE_DIR": str(folder / "cache"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "PYTHONUTF8": "1",
        **extra,
    }


# --- what is run


async def local_calls(stage: Stage) -> None:
    """With the stand-in in the program itself."""

    async def look(program: Program) -> None:
        await program.said(b"state: live")
        program.look_at_processes()

    question = stage.input("question.wav")
    nothing = stage.input("silence.flac")
    persona = "@" + stage.input("persona.txt")
    long = ("--max-duration", "30")
    await asyncio.gather(
        stage.talk(
            "files",
            *("--local", "--input", question, "--output", "answer.wav", *TAIL, "--persona", persona),
            play=look,
        ),
        stage.talk(
            "pipes", "--local", "--input", "-", "--output", "-", *TAIL, stdin=to_pcm(speech.question())
        ),
        stage.talk("reader gone", "--local", "--input", nothing, *long, nobody_reads=True),
        stage.talk("listener gone", "--local", "--input", nothing, "--output", "-", *long, nobody_reads=True),
    )


async def calls_with_credentials(stage: Stage) -> None:
    standin = await stage.standin()
    hangs_up = await stage.standin("close=4")  # when it has greeted
    picky = await stage.moshi(refusal=(400, f"Unknown voice: NATF0 (token {BAD_TOKEN}, {PERSONA})\n"))
    short = ("--input", stage.input("short.wav"), "--max-duration", "2")
    persona = ("--persona", "@" + stage.input("persona.txt"))
    here = ("--server", standin.url, "--auth-url", standin.auth_url, *short)
    await asyncio.gather(
        stage.talk("exchange", *here, *persona, POLARGRID_API_KEY=KEY),
        stage.talk(
            "key itself",
            *("--server", hangs_up.url, "--auth", "key", "--input", stage.input("silence.flac")),
            POLARGRID_API_KEY=KEY,
        ),
        stage.run("token refused", "--debug", "talk", *here, PERSONAPLEX_TOKEN=BAD_TOKEN),
        stage.talk("voice refused", "--server", picky.url, *persona, *short, PERSONAPLEX_TOKEN=BAD_TOKEN),
    )


FAULTS = {
    "error": ["error=0.3", "close=0.6:1011"],
    "drop": ["drop=0.4"],
    "garbage": ["garbage=0.4", "close=2.6"],
    "chained": [
        "packet-ms=80",
        "second-bos=0.32",
        "granules-24k",
        "single-pages",
        "odd-messages",
        "close=2.6",
    ],
    "split": ["split-pages", "packet-ms=40", "burst=0.4:0.4", "close=2.6"],
}
"""Moments count the audio that the stand-in has heard, so a slow machine shifts nothing. A close at 2.6 s is
late enough to be none of our audio's fault."""


async def calls_with_faults(stage: Stage) -> None:
    """The user is silent, so the greeting is heard, through whatever goes wrong."""

    async def call(name: str, faults: list[str]) -> None:
        standin = await stage.standin(*faults)
        files = ("--input", stage.input("silence.flac"), "--output", "answer.wav")
        await stage.talk(name, "--server", standin.url, "--dialect", "moshi", *files)

    await asyncio.gather(*(call(name, faults) for name, faults in FAULTS.items()))


async def calls_with_signals(stage: Stage) -> None:
    async def call(
        name: str,
        *numbers: signal.Signals,
        n_steps: int,
        how: tuple[str, ...] = ("--dialect", "moshi"),
        deaf: bool = False,
        **environment: str,
    ) -> None:
        """Signals after so many steps have been echoed."""
        server = await stage.moshi(deaf_after_steps=n_steps if deaf else None)

        async def play(program: Program) -> None:
            await server.until(lambda heard: heard.n_steps >= n_steps)
            for number in numbers[:-1]:
                program.process.send_signal(number)
                await program.said(b"state: closing")
            await program.interrupt(numbers[-1])

        files = ("--input", stage.input("long.flac"), "--output", "answer.wav")
        to_server = ("--server", server.url, *how)
        heard_by = None if deaf else server
        await stage.talk(name, *to_server, *files, play=play, server=heard_by, **environment)

    whole_question = len(speech.question()) // STEP + 2
    persona = ("--persona", "@" + stage.input("persona.txt"))
    in_query = ("--token-in", "query")
    await asyncio.gather(
        # While we are at it: two calls with a token.
        call("SIGINT", signal.SIGINT, n_steps=whole_question, how=in_query, PERSONAPLEX_TOKEN=TOKEN),
        call("SIGTERM", signal.SIGTERM, n_steps=whole_question, how=persona, PERSONAPLEX_TOKEN=TOKEN),
        call("deaf", signal.SIGINT, n_steps=2, deaf=True),
        call("twice", signal.SIGINT, signal.SIGINT, n_steps=2, deaf=True),
    )


async def serving(stage: Stage) -> None:
    """`personaplex serve`, and a client that is not ours."""

    async def play(program: Program) -> None:
        await program.said(b"--auth-url")
        url = program.run.out.decode().splitlines()[0].split()[-1]
        async with calling(url + MOSHI_PATH) as client:
            await client.ready()
            await client.talk(np.concatenate([speech.question(), quiet(2)]))
            soundfile.write(program.run.folder / "answer.wav", client.heard, RATE)
        await program.interrupt(signal.SIGINT)

    await stage.run("serve", "serve", "--port", "0", play=play)


class Runs:
    def __init__(self, stage: Stage) -> None:
        self.by_name = stage.runs
        self.tokens = stage.tokens

    def __getitem__(self, name: str) -> Run:
        return self.by_name[name]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    async def main() -> Runs:
        async with AsyncExitStack() as stack:
            stage = Stage(tmp_path_factory.mktemp("runs"), stack)
            async with asyncio.timeout(PATIENCE_S):
                # The longest ones first.
                parts = [local_calls(stage), calls_with_faults(stage), calls_with_credentials(stage)]
                if not WINDOWS:
                    parts += [calls_with_signals(stage), serving(stage)]
                await asyncio.gather(*parts)
            return Runs(stage)

    return asyncio.run(main())


# --- conversations


def test_a_file_in_and_a_file_out(runs: Runs) -> None:
    run = runs["files"]
    assert run.code == ExitCode.OK
    question = speech.question()
    score, at_s = likeness(question, run.samples())
    assert score > 0.8
    assert at_s > len(question) / RATE
    assert run.transcript == "♪ I repeat 1.4 seconds of what you said."
    aside, *_ = run.out.decode().splitlines()
    assert aside in [f"You: (0:00: spoke for 1.{tenths} s)" for tenths in (1, 2, 3, 4)]
    assert run.status.splitlines()[:3] == ["state: connecting", "state: waiting for the model", "state: live"]
    assert "Call ended: the input ended, after 0:0" in run.status
    assert "Wrote answer.wav (0:0" in run.status
    assert not list(run.folder.glob("*.part"))


def test_a_call_takes_its_time(runs: Runs) -> None:
    """A question, an answer as long, and the tail."""
    assert runs["files"].seconds > 2 * len(speech.question()) / RATE + float(TAIL[1])


def test_a_pipe_in_and_a_pipe_out(runs: Runs) -> None:
    run = runs["pipes"]
    assert run.code == ExitCode.OK
    heard = to_samples(bytes(run.out))
    assert likeness(speech.question(), heard)[0] > 0.8
    assert "Agent: ♪ I repeat 1.4 seconds of what you said." in run.status
    assert "Call ended: the input ended" in run.status


def test_the_greeting(runs: Runs) -> None:
    run = runs["key itself"]
    assert run.code == ExitCode.OK
    assert run.out.decode().splitlines() == [
        "Agent: Hello!",
        "Agent: I am the stand-in.",
        "Agent: I repeat what you say.",
    ]
    assert "Call ended: the server closed the call (code 1000, normal closure)" in run.status


def test_a_time_limit(runs: Runs) -> None:
    run = runs["exchange"]
    assert run.code == ExitCode.OK
    assert "Call ended: the time limit was reached (2 s)" in run.status


def test_a_reader_of_the_transcript_that_has_gone_ends_the_call(runs: Runs) -> None:
    run = runs["reader gone"]
    assert run.code == ExitCode.OK
    assert run.seconds < 25
    assert "nobody reads it any more" in run.status.splitlines()[-1]


def test_a_listener_that_has_gone_ends_the_call(runs: Runs) -> None:
    run = runs["listener gone"]
    assert run.code == ExitCode.OK
    assert run.seconds < 25
    assert "nobody reads it any more" in run.status.splitlines()[-1]


# --- credentials


@pytest.mark.parametrize("name", ["exchange", "key itself"])
def test_a_key_opens_the_call(runs: Runs, name: str) -> None:
    assert runs[name].code == ExitCode.OK
    assert "state: live" in runs[name].status


def test_an_exchanged_token_is_kept_for_the_user_alone(runs: Runs) -> None:
    [file] = [path for path in (runs["exchange"].folder / "cache").rglob("*") if path.is_file()]
    assert any(token in file.read_text() for token in runs.tokens)
    if not WINDOWS:
        assert file.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(WINDOWS, reason="POSIX signals")
def test_a_token_goes_into_the_header(runs: Runs) -> None:
    heard = runs["SIGTERM"].call_heard
    assert heard.subprotocols == f"bearer.{TOKEN}"
    assert heard.path == f"/v1/voice/personaplex?voice=NATF0&persona={quote(PERSONA)}"


@pytest.mark.skipif(WINDOWS, reason="POSIX signals")
def test_a_token_goes_into_the_query_when_asked(runs: Runs) -> None:
    heard = runs["SIGINT"].call_heard
    assert heard.subprotocols == ""
    assert heard.path == f"/v1/voice/personaplex?voice=NATF0&token={TOKEN}"


def test_a_token_that_is_refused(runs: Runs) -> None:
    run = runs["token refused"]
    assert run.code == ExitCode.CREDENTIALS
    assert "the token was refused (HTTP 401). It says: The token is not valid." in run.status


def test_a_voice_that_the_server_does_not_know(runs: Runs) -> None:
    run = runs["voice refused"]
    assert run.code == ExitCode.SERVER
    assert "(HTTP 400). It says: Unknown voice: NATF0 (token [hidden], [hidden])" in run.status


# --- faults


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("error", ExitCode.SERVER, "error: The server reported an error: The stand-in was asked to"),
        ("drop", ExitCode.CONNECTION, "error: The connection was lost."),
        ("garbage", ExitCode.OK, "Along the way: 1 gap in the agent's audio."),
        ("chained", ExitCode.OK, "Along the way: 3 unknown messages skipped."),
    ],
)
def test_what_a_user_is_told_of_a_fault(runs: Runs, name: str, code: ExitCode, words: str) -> None:
    assert runs[name].code == code
    assert words in runs[name].status
    assert "Traceback" not in runs[name].status


def test_an_error_message_is_shown_when_it_comes(runs: Runs) -> None:
    status = runs["error"].status
    assert status.index("error: The stand-in was asked to report an error.") < status.index("state: closing")


def test_a_server_that_ends_the_session_by_itself(runs: Runs) -> None:
    assert "note: The server ended the session" in runs["split"].status


@pytest.mark.parametrize("name", ["chained", "split"])
def test_speech_comes_through_whatever_its_shape(runs: Runs, name: str) -> None:
    run = runs[name]
    assert run.code == ExitCode.OK
    assert likeness(speech.clip("greeting")[: RATE * 4 // 5], run.samples())[0] > 0.8
    assert run.transcript.startswith("Hello!")
    assert "gap" not in run.status


def test_a_hole_is_filled(runs: Runs) -> None:
    """The damaged page is at 0.4 s: what comes after it is where it belongs."""
    after = speech.clip("greeting")[RATE // 2 : RATE * 9 // 10]
    score, at_s = likeness(after, runs["garbage"].samples())
    assert score > 0.8
    assert at_s == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ["error", "drop"])
def test_what_was_heard_before_a_failure_is_kept(runs: Runs, name: str) -> None:
    run = runs[name]
    assert run.transcript.startswith("Hello!")
    assert len(run.samples()) >= 3 * STEP


# --- the end


@pytest.mark.skipif(WINDOWS, reason="POSIX signals")
@pytest.mark.parametrize("name", ORDERLY_SIGNALS)
def test_a_signal_ends_the_call_in_order(runs: Runs, name: str) -> None:
    run = runs[name]
    assert run.code == ExitCode.OK
    run.call_heard.check_end()
    why = "you hung up" if name == "SIGINT" else "the program was told to end"
    assert f"Call ended: {why}, after " in run.status
    # All that the server has sent is in the file.
    assert len(run.samples()) == run.call_heard.n_steps * STEP
    assert likeness(speech.question(), run.samples())[0] > 0.8
    assert not list(run.folder.glob("*.part"))


@pytest.mark.skipif(WINDOWS, reason="POSIX signals")
def test_a_server_that_does_not_answer_holds_up_nothing(runs: Runs) -> None:
    run = runs["deaf"]
    assert run.code == ExitCode.OK
    assert "Call ended: you hung up" in run.status
    assert run.seconds_to_end < 2 + SLOW_S
    assert len(run.samples()) == 2 * STEP


@pytest.mark.skipif(WINDOWS, reason="POSIX signals")
def test_a_second_signal_ends_the_call_at_once(runs: Runs) -> None:
    run = runs["twice"]
    assert run.code == ExitCode.INTERRUPTED
    assert "Traceback" not in run.status
    assert len(run.samples()) == 2 * STEP


@pytest.mark.skipif(WINDOWS, reason="POSIX signals")
def test_the_stand_in_as_a_program(runs: Runs) -> None:
    run = runs["serve"]
    assert run.code == ExitCode.OK
    assert run.status == ""
    assert likeness(speech.question(), run.samples())[0] > 0.8


# --- secrets


def test_no_secret_is_shown(runs: Runs) -> None:
    assert len(runs.tokens) >= 1
    secrets = [KEY, BAD_TOKEN, TOKEN, PERSONA, quote(PERSONA), *runs.tokens]
    for name, run in runs.by_name.items():
        assert JWT_BEGINS not in run.status, name
        for secret in secrets:
            assert secret.encode() not in run.out + run.err, (name, secret)


def test_no_secret_is_in_the_arguments_of_a_process(runs: Runs) -> None:
    run = runs["files"]
    if not run.arguments:
        pytest.skip("this system has no /proc")
    assert "talk" in run.arguments
    assert PERSONA not in " ".join(run.arguments)
    assert run.children == ""
