from __future__ import annotations

import math
import threading
import time
from array import array
from collections.abc import Callable, Iterator

import pytest

from personaplex_cli.codec.stream import StreamEncoder
from personaplex_cli.pcm import PACKET_SAMPLES, duration_ms, level_dbfs, silence, to_pcm
from personaplex_cli.pipeline import playback as station
from personaplex_cli.pipeline.playback import Playback

LIMIT_S = 10.0


def tone(packet: int, amplitude: float = 10_000) -> bytes:
    first = packet * PACKET_SAMPLES
    return to_pcm(
        array(
            "h",
            [
                round(amplitude * math.sin(math.tau * 440 * i / 24_000))
                for i in range(first, first + PACKET_SAMPLES)
            ],
        )
    )


def payloads(n_packets: int, amplitude: float = 10_000) -> list[bytes]:
    """Header pages and a page for each packet of a tone."""
    encoder = StreamEncoder(serial=42)
    return [*encoder.headers(), *(encoder.page(tone(i, amplitude)) for i in range(n_packets))]


class Ear:
    """A sink. It can be told to block, or to fail."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.arrived_s: list[float] = []
        self.calls = 0
        self.threads: set[str] = set()
        self.error: Exception | None = None
        self.errors: list[Exception] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.reached = threading.Event()

    def write(self, pcm: bytes, arrived_s: float) -> None:
        self.calls += 1
        self.arrived_s.append(arrived_s)
        self.threads.add(threading.current_thread().name)
        self.reached.set()
        assert self.may_go_on.wait(LIMIT_S)
        if self.error:
            raise self.error
        self.heard += pcm


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    yield ear
    ear.may_go_on.set()


def played(ear: Ear) -> Playback:
    return Playback(ear.write, ear.errors.append)


def until(happened: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not happened() and time.monotonic() < deadline_s:
        time.sleep(0.001)


def test_payloads_are_decoded_in_a_thread_of_its_own_and_closing_drains(ear: Ear) -> None:
    playback = played(ear)
    for payload in payloads(50):
        playback.feed(payload, 0.0)
    assert playback.close(LIMIT_S)
    assert duration_ms(bytes(ear.heard)) == playback.received[1] == 1000
    assert ear.threads == {"playback"}
    assert ear.errors == []
    assert level_dbfs(bytes(ear.heard[4800:])) == pytest.approx(level_dbfs(tone(0)), abs=1)


def test_audio_is_passed_on_with_the_time_its_payload_came(ear: Ear) -> None:
    playback = played(ear)
    *headers, first, second, third = payloads(3)
    for at_s, payload in (
        (1.0, b"".join(headers)),
        (2.0, first),
        (3.0, second[:30]),
        (4.5, second[30:] + third),
    ):
        playback.feed(payload, at_s)
    assert playback.close(LIMIT_S)
    assert ear.arrived_s == [2.0, 4.5]
    assert playback.received == (4.5, 60.0)


def test_payloads_cut_anywhere_are_as_good(ear: Ear) -> None:
    playback = played(ear)
    stream = b"".join(payloads(10))
    for at in range(0, len(stream), 13):
        playback.feed(stream[at : at + 13], 0.0)
    assert playback.close(LIMIT_S)
    assert playback.received[1] == 200
    assert playback.decoder.holes == 0


def test_one_large_payload_is_played_in_portions(ear: Ear) -> None:
    playback = played(ear)
    stream = b"".join(payloads(200))
    assert len(stream) > 2 * station.DECODE_BYTES
    playback.feed(stream, 0.0)
    assert playback.close(LIMIT_S)
    assert playback.received[1] == 4000
    assert ear.calls > 1


def test_payloads_without_audio_write_nothing(ear: Ear) -> None:
    playback = played(ear)
    for payload in (*payloads(0), b"", b"no Ogg at all"):
        playback.feed(payload, 0.0)
    assert playback.close(LIMIT_S)
    assert ear.calls == 0 and playback.received[1] == 0


def test_feeding_never_waits_for_a_sink_that_does(ear: Ear) -> None:
    ear.may_go_on.clear()
    playback = played(ear)
    for payload in payloads(100):
        playback.feed(payload, 0.0)
    assert ear.reached.wait(LIMIT_S)
    assert not playback.close(0.01)
    ear.may_go_on.set()
    playback._thread.join(LIMIT_S)
    assert duration_ms(bytes(ear.heard)) == 2000


def test_a_failing_sink_is_reported_once_and_decoding_goes_on(ear: Ear) -> None:
    playback = played(ear)
    ear.error = BrokenPipeError("gone")
    for payload in payloads(20):
        playback.feed(payload, 0.0)
    assert playback.close(LIMIT_S)
    assert ear.errors == [ear.error]
    assert ear.calls == 1
    assert playback.received[1] == 400


def test_the_queue_is_bounded_and_the_oldest_goes(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "QUEUE_PAYLOADS", 10)
    ear.may_go_on.clear()
    playback = played(ear)
    *headers, first, second = payloads(2)
    for payload in (*headers, first):
        playback.feed(payload, 0.0)
    assert ear.reached.wait(LIMIT_S)  # the thread now holds `first`, and the queue is empty
    encoder = StreamEncoder(serial=7)
    late = [*encoder.headers(), *(encoder.page(silence(PACKET_SAMPLES)) for _ in range(8))]
    for payload in (*[second] * 25, *late):
        playback.feed(payload, 0.0)
    assert playback.payloads_dropped == 25
    ear.may_go_on.set()
    assert playback.close(LIMIT_S)
    assert playback.decoder.streams == 2
    assert duration_ms(bytes(ear.heard)) == 20 + 8 * 20


def test_a_hole_left_by_dropped_payloads_is_concealed(ear: Ear) -> None:
    playback = played(ear)
    stream = payloads(20)
    for payload in (*stream[:10], *stream[13:]):
        playback.feed(payload, 0.0)
    assert playback.close(LIMIT_S)
    assert playback.decoder.holes == 1
    assert playback.received[1] == 400


def test_levels_are_those_of_each_20_ms_with_where_they_end(ear: Ear) -> None:
    playback = played(ear)
    encoder = StreamEncoder(serial=42)
    square = to_pcm(array("h", [32_767] * 40 + [-32_768] * 40) * 6)
    pcm = [*(tone(i) for i in range(10)), *[silence(PACKET_SAMPLES)] * 10, *[square] * 3]
    for payload in (*encoder.headers(), *map(encoder.page, pcm)):
        playback.feed(payload, 0.0)
    assert playback.close(LIMIT_S)
    assert [level.end_ms for level in playback.levels] == [20.0 * i for i in range(1, 24)]
    loud = level_dbfs(tone(0))
    assert [level.dbfs for level in playback.levels][1:10] == pytest.approx([loud] * 9, abs=1)
    assert max(level.dbfs for level in list(playback.levels)[12:20]) < loud - 40
    assert [level.clipped for level in playback.levels] == [False] * 20 + [True] * 3


def test_a_packet_that_is_not_a_whole_number_of_20_ms_leaves_a_shorter_level(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    playback = played(ear)
    monkeypatch.setattr(playback.decoder, "feed", lambda payload: tone(0) + tone(1)[:240])
    playback.feed(b"x", 0.0)
    playback.feed(b"x", 0.0)
    assert playback.close(LIMIT_S)
    assert [level.end_ms for level in playback.levels] == [20.0, 25.0, 45.0, 50.0]


def test_levels_and_marks_that_nobody_takes_go_when_there_are_too_many(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "NOTES", 5)
    playback = played(ear)
    for payload in payloads(8):
        playback.feed(payload, 0.0)
        playback.mark(1)
    assert playback.close(LIMIT_S)
    assert [level.end_ms for level in playback.levels] == [80.0, 100.0, 120.0, 140.0, 160.0]
    assert [at_ms for _, at_ms in playback.marks] == [80.0, 100.0, 120.0, 140.0, 160.0]


# --- marks


def test_a_mark_stands_where_the_audio_before_it_ends(ear: Ear) -> None:
    playback = played(ear)
    *headers, first, second, third = payloads(3)
    playback.mark(1)
    for payload in (*headers, first):
        playback.feed(payload, 0.0)
    playback.mark(5)
    playback.mark(7)
    playback.feed(second[:30], 0.0)
    playback.mark(8)
    playback.feed(second[30:] + third, 0.0)
    playback.mark(9)
    assert playback.close(LIMIT_S)
    assert list(playback.marks) == [(1, 0.0), (5, 20.0), (7, 20.0), (8, 20.0), (9, 60.0)]
    assert playback.payloads_dropped == 0


def test_marks_go_with_dropped_payloads_and_a_later_one_stands_for_them(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "QUEUE_PAYLOADS", 10)
    ear.may_go_on.clear()
    playback = played(ear)
    *headers, first, second = payloads(2)
    for payload in (*headers, first):
        playback.feed(payload, 0.0)
    assert ear.reached.wait(LIMIT_S)  # the thread now holds `first`, and the queue is empty
    for number in range(5):
        playback.feed(second, 0.0)
        playback.mark(number)
    for _ in range(8):
        playback.feed(second, 0.0)
    assert playback.payloads_dropped == 4  # of 18 things the 8 oldest: the marks between them went, too
    playback.mark(5)  # there is no place for it
    ear.may_go_on.set()
    until(lambda: playback._queue.empty())
    playback.mark(6)
    assert playback.close(LIMIT_S)
    assert list(playback.marks) == [(4, 40.0), (6, playback.received[1])]


def test_nothing_but_marks_neither_waits_nor_fills_the_memory(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "QUEUE_PAYLOADS", 10)
    ear.may_go_on.clear()
    playback = played(ear)
    for payload in payloads(1):
        playback.feed(payload, 0.0)
    assert ear.reached.wait(LIMIT_S)
    for number in range(100):
        playback.mark(number)
    playback.feed(b"", 0.0)
    assert playback.payloads_dropped == 0  # a mark went
    ear.may_go_on.set()
    assert playback.close(LIMIT_S)
    assert [number for number, _ in playback.marks] == list(range(1, 10))


def test_closing_with_a_full_queue_does_not_fail(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    ear.may_go_on.clear()
    playback = played(ear)
    for payload in payloads(1):
        playback.feed(payload, 0.0)
    assert ear.reached.wait(LIMIT_S)
    for _ in range(station.QUEUE_PAYLOADS + 5):
        playback.feed(b"", 0.0)
    assert playback.payloads_dropped == 5
    assert not playback.close(0.01)
    ear.may_go_on.set()
    playback._thread.join(LIMIT_S)
    assert not playback._thread.is_alive()
