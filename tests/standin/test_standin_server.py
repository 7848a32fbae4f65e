"""The stand-in over loopback, as a client sees it that is not ours."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import jwt
import numpy as np
import pytest
import speech
import sphn
from ogg_pages import RATE, STEP, Page, likeness, packet_ms, read_pages, rms_dbfs, spoil
from sphn_client import MOSHI_PATH, PATIENCE_S, VOICE_PATH, SphnClient, calling, quiet
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from personaplex_cli.errors import UsageError
from personaplex_cli.standin.faults import Faults, parse_faults
from personaplex_cli.standin.server import StandIn

KEY = "pg_a_key_of_somebody"


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@asynccontextmanager
async def talking(*faults: str, path: str = MOSHI_PATH) -> AsyncIterator[SphnClient]:
    """A call with a stand-in that has these faults, after the handshake."""
    async with StandIn(parse_faults(list(faults))) as standin, calling(standin.url + path) as client:
        await client.ready()
        yield client


# --- the token endpoint


async def ask(standin: StandIn, method: str, path: str, **headers: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""

    def exchange() -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(urlsplit(standin.url).netloc, timeout=PATIENCE_S)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type", ""), response.read()
        finally:
            connection.close()

    return await asyncio.to_thread(exchange)


def test_a_key_is_exchanged_for_a_token() -> None:
    async def main() -> None:
        async with StandIn(Faults(token_lifetime=120)) as standin:
            path = urlsplit(standin.auth_url).path
            assert path == "/v1/auth/token"
            status, content_type, body = await ask(standin, "POST", path, Authorization=f"Bearer {KEY}")
            assert (status, content_type) == (200, "application/json")
            answer = json.loads(body)
            assert answer["expires_in"] == 120
            claims = jwt.decode(answer["token"], options={"verify_signature": False})
            assert claims["exp"] - claims["iat"] == 120
            assert abs(claims["iat"] - time.time()) < 60
            async with calling(standin.url + VOICE_PATH, bearer=answer["token"]) as client:
                await client.ready()

    run(main())


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sk-1"}, {"Authorization": f"Basic {KEY}"}])
def test_no_token_without_a_key(headers: dict[str, str]) -> None:
    async def main() -> None:
        async with StandIn() as standin:
            assert (await ask(standin, "POST", "/v1/auth/token", **headers))[0] == 401

    run(main())


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_the_token_endpoint_takes_nothing_but_post(method: str) -> None:
    async def main() -> None:
        async with StandIn() as standin:
            status, _, body = await ask(standin, method, "/v1/auth/token", Authorization=f"Bearer {KEY}")
            assert status == 405
            assert b"POST" in body

    run(main())


@pytest.mark.parametrize("path", ["/", "/v1/voice", "/v1/voice/personaplex/", "/api/chat2"])
def test_there_is_nothing_at_another_path(path: str) -> None:
    async def main() -> None:
        async with StandIn() as standin:
            assert (await ask(standin, "GET", path))[0] == 404
            assert (await refused(standin.url + path))[0] == 404

    run(main())


# --- who may call


async def refused(url: str, bearer: str | None = None) -> tuple[int, str]:
    """Status and words."""
    with pytest.raises(InvalidStatus) as caught:
        async with calling(url, bearer=bearer):
            pass
    return caught.value.response.status_code, bytes(caught.value.response.body or b"").decode()


def test_a_token_in_header_or_query_or_the_key_itself() -> None:
    async def main() -> None:
        async with StandIn() as standin:
            token = standin.issue_token()
            for bearer, query in ((token, ""), (None, f"&token={token}"), (KEY, ""), (None, f"&token={KEY}")):
                async with calling(f"{standin.url}{VOICE_PATH}{query}", bearer=bearer) as client:
                    await client.ready()
                    assert client.connection.subprotocol is None

    run(main())


def test_who_has_no_good_token_is_refused() -> None:
    async def main() -> None:
        async with StandIn() as standin, StandIn() as other:
            url = standin.url + VOICE_PATH
            assert await refused(url) == (401, "There is no token.\n")
            assert await refused(url + "&token=") == (401, "There is no token.\n")
            for bad in ("garbage", other.issue_token(), standin.issue_token() + "x"):
                assert await refused(url, bad) == (401, "The token is not valid.\n")
                assert await refused(f"{url}&token={bad}") == (401, "The token is not valid.\n")

    run(main())


def test_an_expired_token_is_refused() -> None:
    async def main() -> None:
        async with StandIn(Faults(token_lifetime=0)) as standin:
            words = (401, "The token has expired.\n")
            assert await refused(standin.url + VOICE_PATH, standin.issue_token()) == words

    run(main())


@pytest.mark.parametrize("voice", ["NATF9", "natf0", "NATF0.pt", "", "%0d%0aX:%201"])
def test_an_unknown_voice_is_refused_with_the_reason(voice: str) -> None:
    async def main() -> None:
        async with StandIn() as standin:
            url = f"{standin.url}/v1/voice/personaplex?voice={voice}"
            status, words = await refused(url, standin.issue_token())
            assert status == 400
            assert words.startswith("Unknown voice: ")

    run(main())


@pytest.mark.parametrize(
    "query", ["", "?voice_prompt=NATF0.pt&text_prompt=Hello", "?voice_prompt=VARM4&text_prompt=x"]
)
def test_the_path_of_moshi_wants_no_token(query: str) -> None:
    async def main() -> None:
        async with talking(path=MOSHI_PATH + query) as client:
            await client.talk(quiet(0.5))
            assert client.n_heard == 7 * STEP

    run(main())


@pytest.mark.parametrize(
    "query",
    ["?voice_prompt=NATF9.pt&text_prompt=x", "?voice_prompt=NATF0.pt", "?text_prompt=x", "?text_prompt="],
)
def test_bad_parameters_on_the_path_of_moshi_drop_the_call_without_a_word(query: str) -> None:
    async def main() -> None:
        async with StandIn() as standin, calling(standin.url + MOSHI_PATH + query) as client:
            assert await client.closed() == 1006
            assert client.messages == []

    run(main())


def test_a_port_that_is_taken() -> None:
    async def main() -> None:
        async with StandIn() as standin:
            port = urlsplit(standin.url).port
            assert port
            with pytest.raises(UsageError, match=f"port {port}"):
                async with StandIn(port=port):
                    pass

    run(main())


def test_an_address_of_ip_version_6() -> None:
    async def main() -> None:
        try:
            standin = await StandIn(host="::1").__aenter__()
        except UsageError:
            pytest.skip("this machine has no IPv6")
        try:
            assert standin.url.startswith("ws://[::1]:")
            async with calling(standin.url + MOSHI_PATH) as client:
                await client.ready()
        finally:
            await standin.__aexit__()

    run(main())


# --- the call


def test_first_comes_the_handshake_then_metadata_then_the_headers() -> None:
    async def main() -> None:
        async with talking() as client:
            await client.until(lambda: len(client.messages) == 3)
            handshake, metadata, headers = client.messages
            assert handshake == b"\x00"
            assert isinstance(metadata, bytes) and metadata[0] == 0x04
            assert json.loads(metadata[1:])["server"] == "personaplex stand-in"
            assert isinstance(headers, bytes) and headers[0] == 0x01
            head, tags = read_pages(headers[1:])
            assert head.bos and head.packets[0].startswith(b"OpusHead")
            assert tags.packets[0].startswith(b"OpusTags")

    run(main())


def test_a_step_out_for_each_step_in_silence_included() -> None:
    async def main() -> None:
        async with talking("silent") as client:
            for n_steps in (1, 2, 30):
                await client.talk(quiet(n_steps * 0.08))
                assert client.n_heard == sum(n for n in (1, 2, 30) if n <= n_steps) * STEP
            # Nothing more comes by itself: the answer to the next step is the next message.
            n_messages = len(client.messages)
            await client.talk(quiet(0.08))
            assert len(client.messages) == n_messages + 1

    run(main())


def test_less_than_a_step_is_not_answered() -> None:
    async def main() -> None:
        async with talking("silent") as client:
            writer = sphn.OpusStreamWriter(RATE)
            for n_sent in range(1, 12):
                await client.send(b"\x01" + writer.append_pcm(np.zeros(960, np.float32)))
                await client.heard_at_least(n_sent // 2 * STEP)
                assert client.n_heard == n_sent // 2 * STEP

    run(main())


def test_greets_with_its_transcript_in_time() -> None:
    async def main() -> None:
        async with talking() as client:
            greeting = speech.clip("greeting")
            await client.talk(quiet(len(greeting) / RATE + 1))
            score, at_s = likeness(greeting, client.heard)
            assert score > 0.8
            assert at_s < 0.08
            assert client.text == " Hello! I am the stand-in. I repeat what you say."
            starts = [piece.at for piece in client.pieces if piece.text.startswith(" ")]
            for number, (start_ms, word) in enumerate(speech.words("greeting")):
                step = start_ms // 80
                assert starts[number] == (step + 1) * STEP, word  # just after the audio of its step

    run(main())


def test_repeats_what_was_said_and_listens_on() -> None:
    async def main() -> None:
        async with talking() as client:
            question = speech.question()
            await client.talk(np.concatenate([question, quiet(2)]))
            score, at_s = likeness(question, client.heard)
            assert score > 0.8
            assert at_s > len(question) / RATE
            # It was silent while it was spoken to: the greeting stopped at once.
            assert rms_dbfs(client.heard[STEP : len(question)]) < -60
            assert client.text.count("I repeat") == 1
            # Once more, and into the answer.
            await client.talk(np.concatenate([question, quiet(1.2)]))
            n_before = client.n_heard
            interruption = speech.clip("noted")
            await client.talk(np.concatenate([interruption, quiet(2)]))
            rest = client.heard[n_before:]
            assert likeness(interruption, rest)[0] > 0.8
            # (The first step of the interruption and the coder's look-ahead may still be heard.)
            assert rms_dbfs(rest[2 * STEP : len(interruption)]) < -60

    run(main())


def test_answers_a_text() -> None:
    async def main() -> None:
        async with talking() as client:
            await client.send(b"\x02Guten Abend \xe2\x99\xa5")
            await client.talk(quiet(4.8))
            assert client.text.endswith(" I have read that. You wrote: Guten Abend <0xE2><0x99><0xA5>")
            assert likeness(speech.clip("noted"), client.heard)[0] > 0.8

    run(main())


def test_control_messages_and_unknown_ones_are_ignored() -> None:
    async def main() -> None:
        async with talking("silent") as client:
            for message in (b"\x03bos", b"\x03eos", b"\x7f", b"", b"\x02\xff\xfe", "text", b"\x06"):
                await client.send(message)
            await client.talk(quiet(0.16))
            assert client.n_heard == 2 * STEP

    run(main())


def test_two_calls_at_the_same_time_do_not_mix() -> None:
    async def main() -> None:
        async with StandIn() as standin:
            url = standin.url + MOSHI_PATH
            async with calling(url) as one, calling(url) as other:
                await asyncio.gather(one.ready(), other.ready())
                question, words = speech.question(), speech.clip("noted")
                await asyncio.gather(
                    one.talk(np.concatenate([question, quiet(2)])),
                    other.talk(np.concatenate([words, quiet(2)])),
                )
                assert likeness(question, one.heard)[0] > 0.8
                assert likeness(words, other.heard)[0] > 0.8
                assert likeness(question, other.heard)[0] < 0.4

    run(main())


def test_pings_are_not_answered() -> None:
    async def main() -> None:
        async with talking("silent") as client:
            pong = asyncio.ensure_future(await client.connection.ping())
            await client.talk(quiet(0.08))  # answered after the ping was read
            assert not pong.done()
            pong.cancel()

    run(main())


def test_nothing_is_compressed() -> None:
    async def main() -> None:
        async with talking() as client:
            assert client.connection.response
            assert "Sec-WebSocket-Extensions" not in client.connection.response.headers

    run(main())


# --- strictness


@cache
def pages() -> list[Page]:
    """A stream of sphn: OpusHead, OpusTags, packets of 40 ms."""
    writer = sphn.OpusStreamWriter(RATE)
    samples = speech.question()[: 5 * STEP]
    return read_pages(b"".join(writer.append_pcm(step) for step in samples.reshape(-1, STEP)))


def test_audio_before_the_handshake_ends_the_call() -> None:
    async def main() -> None:
        standin = StandIn(Faults(handshake_delay=PATIENCE_S * 2))
        bearer = standin.issue_token()
        async with standin, calling(standin.url + VOICE_PATH, bearer=bearer) as client:
            await client.send(b"\x02text may come early")
            await client.send("and this too")
            await client.say(quiet(0.08))
            assert await client.closed() == 1000
            assert client.messages == []

    run(main())


def test_audio_before_the_handshake_is_queued_on_the_path_of_moshi() -> None:
    async def main() -> None:
        standin = StandIn(Faults(handshake_delay=0.1, silent=True))
        async with standin, calling(standin.url + MOSHI_PATH) as client:
            await client.talk(quiet(0.4))
            assert client.messages[0] == b"\x00"
            assert client.n_heard == 5 * STEP

    run(main())


@pytest.mark.parametrize(
    "payloads",
    [
        [b""],
        [b"this is no page"],
        [pages()[1].whole],
        [pages()[2].whole],
        [pages()[0].whole[:20], pages()[0].whole[20:]],
        [spoil(pages()[0].whole)],
        [pages()[0].whole, pages()[1].whole, pages()[0].whole],
        [page.whole for page in pages()[:4]] + [spoil(pages()[4].whole), pages()[5].whole],
        [page.whole for page in pages()[:4]] + [pages()[5].whole],
    ],
    ids=[
        "nothing",
        "garbage",
        "tags first",
        "audio first",
        "first page in two",
        "damaged first page",
        "second BOS page",
        "damaged page",
        "missing page",
    ],
)
def test_a_stream_that_is_not_right_ends_the_call(payloads: list[bytes]) -> None:
    async def main() -> None:
        async with talking() as client:
            for payload in payloads:
                await client.send(b"\x01" + payload)
            assert await client.closed() == 1000

    run(main())


# --- faults


def test_handshake_delay() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with StandIn(Faults(handshake_delay=0.3)) as standin:
            for path, bearer in ((MOSHI_PATH, None), (VOICE_PATH, standin.issue_token())):
                async with calling(standin.url + path, bearer=bearer) as client:
                    began_s = loop.time()
                    await client.ready()
                    assert loop.time() - began_s > 0.25

    run(main())


def test_a_client_that_waits_does_not_hold_up_the_end() -> None:
    """Ctrl-C on `personaplex serve` while a call waits for its handshake, or stalls."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for faults, said in ((Faults(handshake_delay=300), 0.0), (parse_faults(["stall=0:300"]), 0.08)):
            async with AsyncExitStack() as stack:
                standin = StandIn(faults)
                await standin.__aenter__()
                client = await stack.enter_async_context(calling(standin.url + MOSHI_PATH))
                if said:
                    await client.ready()
                    await client.say(quiet(said))
                began_s = loop.time()
                await standin.__aexit__()
                assert loop.time() - began_s < PATIENCE_S
                assert await client.closed() in (1001, 1006)

    run(main())


def test_stall() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with talking("silent", "stall=0.16:0.3") as client:
            await client.talk(quiet(0.16))
            began_s = loop.time()
            await client.talk(quiet(0.8))
            assert loop.time() - began_s > 0.25
            assert client.n_heard == 12 * STEP

    run(main())


def test_burst() -> None:
    async def main() -> None:
        async with talking("burst=0.4:0.8") as client:
            await client.talk(quiet(0.4))
            await client.say(quiet(0.8))
            # The server has heard all of it by then: it answers in order.
            await client.send(b"\x01")
            n_messages = len(client.messages)
            assert client.n_heard == 5 * STEP
            await client.talk(quiet(0.08))
            await client.until(lambda: client.n_heard == 16 * STEP)
            assert len(client.messages) >= n_messages + 11
            assert likeness(speech.clip("greeting")[: 15 * STEP], client.heard)[0] > 0.8

    run(main())


def test_silent() -> None:
    async def main() -> None:
        async with talking("silent") as client:
            await client.send(b"\x02hello")
            await client.talk(np.concatenate([speech.question(), quiet(1)]))
            assert rms_dbfs(client.heard) < -90
            assert client.pieces == []

    run(main())


def test_error() -> None:
    async def main() -> None:
        async with talking("silent", "error=0.4") as client:
            await client.talk(quiet(0.8))
            assert client.tagged(0x05) == [b"The stand-in was asked to report an error."]
            before = client.messages[: client.messages.index(b"\x05" + client.tagged(0x05)[0])]
            assert len([m for m in before if isinstance(m, bytes) and m[0] == 1]) == 1 + 5
            assert client.n_heard == 10 * STEP

    run(main())


@pytest.mark.parametrize(
    ("fault", "code"),
    [("close=0.4", 1000), ("close=0.4:1011", 1011), ("close=0.4:4401", 4401), ("drop=0.4", 1006)],
)
def test_close_and_drop(fault: str, code: int) -> None:
    async def main() -> None:
        async with talking("silent", fault) as client:
            await client.say(quiet(0.8))
            assert await client.closed() == code
            if code != 1006:  # what was on its way is lost in a drop
                assert client.n_heard == 5 * STEP

    run(main())


def test_garbage() -> None:
    async def main() -> None:
        async with talking("garbage=0.4") as client:
            await client.talk(quiet(1))
            found = read_pages(b"".join(client.payloads))
            assert [number for number, page in enumerate(found) if not page.sound] == [2 + 5 * 4]

    run(main())


def test_second_bos() -> None:
    async def main() -> None:
        async with talking("second-bos=0.4") as client:
            await client.talk(quiet(0.8))
            found = read_pages(b"".join(client.payloads))
            assert [number for number, page in enumerate(found) if page.bos] == [0, 2 + 5 * 4]
            assert all(page.sound for page in found)

    run(main())


def test_granules_24k() -> None:
    async def main() -> None:
        async with talking("granules-24k") as client:
            await client.talk(quiet(0.8))
            assert read_pages(b"".join(client.payloads))[-1].granule == 10 * STEP

    run(main())


@pytest.mark.parametrize("duration_ms", [40, 80])
def test_longer_packets(duration_ms: int) -> None:
    async def main() -> None:
        async with talking(f"packet-ms={duration_ms}") as client:
            greeting = speech.clip("greeting")[:RATE]
            await client.talk(quiet(1.2))
            packets = [page.packets[0] for page in read_pages(b"".join(client.payloads))[2:]]
            assert {packet_ms(packet) for packet in packets} == {duration_ms}
            assert likeness(greeting, client.heard)[0] > 0.8

    run(main())


def test_single_and_split_pages() -> None:
    async def main() -> None:
        async with talking("single-pages") as client:
            await client.talk(quiet(0.4))
            assert [len(read_pages(payload)) for payload in client.payloads] == [1] * (2 + 5 * 4)
        async with talking("split-pages") as client:
            await client.say(quiet(1.2))
            await client.heard_at_least(14 * STEP)
            assert not any(payload.startswith(b"OggS") for payload in client.payloads[1:])
            assert likeness(speech.clip("greeting")[:RATE], client.heard)[0] > 0.8

    run(main())


def test_odd_messages() -> None:
    async def main() -> None:
        async with talking("odd-messages", "silent") as client:
            await client.talk(quiet(0.4))
            assert {b"", "a message of type text", b"\x06"} <= set(client.messages)
            assert client.tagged(0x7F)
            assert client.n_heard == 5 * STEP

    run(main())


async def _raw_close_code(url: str) -> int | None:
    async with connect(url, ping_interval=None, proxy=None) as connection:
        await connection.close()
        return connection.close_code


def test_a_client_that_leaves_at_once() -> None:
    async def main() -> None:
        async with StandIn(Faults(handshake_delay=0.05)) as standin:
            codes = await asyncio.gather(*[_raw_close_code(standin.url + MOSHI_PATH) for _ in range(5)])
            assert codes == [1000] * 5

    run(main())
