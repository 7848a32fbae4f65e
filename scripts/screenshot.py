"""Makes docs/screen.svg: a window with a real call in it, as it looks while the agent answers.

    python scripts/screenshot.py [FILE]

A shell in a pseudo-terminal is given the command, on the virtual sound card; the question is spoken into its
microphone, and the picture is what the terminal shows while the stand-in repeats it. Then the call is hung
up. Needs what virtual_audio.sh needs.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pexpect
import pyte
import soundfile
from rich.console import Console
from rich.style import Style
from rich.text import Text
from rig import card

ROOT: Final = Path(__file__).parents[1]
QUESTION: Final = ROOT / "examples" / "question.opus"
COMMAND: Final = "personaplex talk --local --voice NATM1"
TITLE: Final = "personaplex"
COLUMNS: Final = 80
ROWS: Final = 16
LIMIT_S: Final = 30.0

DIM, BLINK = 2, 5

# Rich's own format asks another server for a font, which pages that show a picture do not let it do.
SVG: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


class Screen(pyte.Screen):
    def select_graphic_rendition(self, *codes: int, **options: bool) -> None:
        """pyte does not know dim characters; blinking, which nobody uses here, stands in for them."""
        super().select_graphic_rendition(*(BLINK if code == DIM else code for code in codes), **options)


class Window:
    """A terminal in which a shell runs, with `folder` as its working directory."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.screen = Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self.shell = pexpect.spawn(
            "/bin/sh",
            cwd=str(folder),
            dimensions=(ROWS, COLUMNS),
            env={
                **environment,
                "HOME": str(folder),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "PS1": "$ ",
                "PYTHONUTF8": "1",
                "TERM": "xterm-256color",
            },
        )

    def wait_for(self, seen: Callable[[list[str]], bool]) -> None:
        """Feeds the screen until `seen` says that its rows are as wanted."""
        end_s = time.monotonic() + LIMIT_S
        while not seen([row.rstrip() for row in self.screen.display]):
            if time.monotonic() > end_s:
                sys.exit("\n".join(["screenshot: the screen never looked as wanted:", *self.screen.display]))
            try:
                self._stream.feed(self.shell.read_nonblocking(4096, timeout=1))
            except pexpect.TIMEOUT:
                continue

    def rows(self) -> list[Text]:
        """What is on the screen, down to the last row that is not empty."""
        rows = [self._row(y) for y in range(ROWS)]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def _row(self, y: int) -> Text:
        row = Text()
        cells = [self.screen.buffer[y][x] for x in range(COLUMNS)]
        for style, run in groupby(cells, _style):
            # Word by word: each gets a place of its own, and so stays in its column whatever the font.
            for part in re.findall(r"\s+|\S+", "".join(cell.data for cell in run)):
                row.append(part, style)
        row.rstrip()
        return row


def _style(cell: Any) -> Style:
    color = None if cell.fg == "default" else cell.fg
    return Style(color=color, bold=cell.bold, dim=cell.blink)


def answering(rows: list[str]) -> bool:
    """The agent repeats, it is heard, and the sentence that says so is nearly complete."""
    return any(row.endswith("of what you") for row in rows) and any(
        row.startswith("You:") and row.endswith("●") for row in rows
    )


def greeted(rows: list[str]) -> bool:
    """The greeting is over, and the agent's meter says so."""
    return any(row.endswith("I repeat what you say.") for row in rows) and not any("●" in row for row in rows)


def record() -> list[Text]:
    with tempfile.TemporaryDirectory() as name, card() as environment:
        folder = Path(name)
        question = folder / "question.wav"
        soundfile.write(question, *soundfile.read(QUESTION))
        window = Window(folder, environment)
        window.wait_for(lambda rows: rows[0] == "$")
        window.shell.sendline(COMMAND)
        window.wait_for(greeted)
        speech = subprocess.Popen(["paplay", "--device=micfeed", str(question)], env=environment)
        window.wait_for(answering)
        rows = window.rows()
        speech.wait()
        window.shell.send("q")
        window.wait_for(lambda rows: "$" in rows)
        window.shell.sendline("exit")
        window.shell.expect(pexpect.EOF)
        window.shell.close()
    return rows


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screen.svg"
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor", force_terminal=True
    )
    for row in record():
        console.print(row)
    svg = console.export_svg(title=TITLE, code_format=SVG, unique_id="screen")
    target.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", "utf-8", newline="\n")
    print(f"{target}: {target.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
