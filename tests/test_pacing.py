from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from fakes import run_virtual

from personaplex_cli.pacing import PACKET_S, REANCHOR_S, Pacer


def now() -> float:
    return asyncio.get_running_loop().time()


async def started() -> tuple[Pacer, float]:
    pacer = Pacer()
    pacer.start()
    return pacer, now()


def test_the_first_deadline_is_one_packet_after_the_start() -> None:
    async def main() -> None:
        pacer, began = await started()
        assert await pacer.wait() == now() == pytest.approx(began + PACKET_S)

    run_virtual(main())


def test_no_drift_over_two_thousand_steps_with_a_slow_user() -> None:
    """Whoever waits works for up to 19 ms after each deadline, and is woken up a little late each time."""
    rng = random.Random(1)

    async def main() -> None:
        clock: Any = asyncio.get_running_loop().selector  # type: ignore[attr-defined]
        pacer, began = await started()
        for step in range(1, 2001):
            due = await pacer.wait()
            assert due == pytest.approx(began + step * PACKET_S, abs=1e-6)
            assert now() - due < 1e-6
            clock.now_s += rng.uniform(0, 0.019)
        assert pacer.reanchored == 0

    run_virtual(main())


def test_a_short_delay_is_caught_up() -> None:
    async def main() -> None:
        pacer, began = await started()
        await asyncio.sleep(PACKET_S + 0.19)  # 190 ms late
        late = now()
        dues = [await pacer.wait() for _ in range(12)]
        assert dues == pytest.approx([began + step * PACKET_S for step in range(1, 13)])
        assert [due for due in dues if due <= late] == dues[:10]
        assert now() == pytest.approx(dues[-1])
        assert pacer.reanchored == 0

    run_virtual(main())


def test_ten_deadlines_that_have_passed_come_without_waiting() -> None:
    async def main() -> None:
        pacer, _ = await started()
        await asyncio.sleep(PACKET_S + 0.19)
        late = now()
        for _ in range(10):
            await pacer.wait()
        assert now() == late

    run_virtual(main())


@pytest.mark.parametrize(("late_s", "reanchored"), [(REANCHOR_S - 1e-3, 0), (REANCHOR_S + 1e-3, 1)])
def test_the_edge_between_catching_up_and_a_new_schedule(late_s: float, reanchored: int) -> None:
    async def main() -> None:
        pacer, began = await started()
        await asyncio.sleep(PACKET_S + late_s)
        due = await pacer.wait()
        assert due == pytest.approx(now() if reanchored else began + PACKET_S)
        assert pacer.reanchored == reanchored

    run_virtual(main())


def test_after_a_long_delay_the_pace_is_real_time_from_there() -> None:
    async def main() -> None:
        pacer, _ = await started()
        for stall in (1, 2):
            await asyncio.sleep(60)
            resumed = now()
            dues = [await pacer.wait() for _ in range(5)]
            assert dues == pytest.approx([resumed + step * PACKET_S for step in range(5)])
            assert now() == pytest.approx(dues[-1])
            assert pacer.reanchored == stall

    run_virtual(main())


def test_who_is_late_lets_others_run() -> None:
    async def main() -> None:
        pacer, _ = await started()
        await asyncio.sleep(0.1)
        others = asyncio.create_task(asyncio.sleep(0))
        await pacer.wait()
        await pacer.wait()
        assert others.done()

    run_virtual(main())
