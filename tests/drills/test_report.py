from __future__ import annotations

import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from rich.console import Console

from tests.drills.checker import Arrival, judge
from tests.drills.faults import FAULTS, Fault
from tests.drills.oracle import Every, dues
from tests.drills.page import page, write
from tests.drills.progress import rest
from tests.drills.record import Record
from tests.drills.report import Row, document, markdown, table
from tests.drills.stage import Outcome

ANCHOR = 1_800_000_000_123
END = ANCHOR + 10_000
SCHEDULE = {"entry": Every(1)}


def outcome(*, without: int = 0, twice: int = 0, complaint: str = "") -> Outcome:
    """Of one entry, ten times."""
    history = [
        Arrival("entry", due, str(due), (due + 4) * 1000, node="node-1-0a1b2c3d")
        for due in dues(Every(1), anchor=ANCHOR, until=END)
    ][without:]
    history += [replace(it, task_id="other") for it in history[:twice]]
    return Outcome(
        verdict=judge(SCHEDULE, history, anchor=ANCHOR, until=END),
        bound=700,
        events=((ANCHOR + 2000, "SIGKILL to node-1"),),
        stall=1.5,
        logs=Path(),
        record=Record(ANCHOR, END, ANCHOR, ("node-1",), tuple(history), (), (ANCHOR + 2000, END)),
        complaints=(complaint,) if complaint else (),
    )


GOOD = Row(FAULTS["kill"], outcome(), seconds=21.04)
BAD = Row(FAULTS["none"], outcome(without=2))
BROKEN = Row(FAULTS["pause"], None, error="the drill did not come to its end: <no> server")
PEER = Row(FAULTS["kill"], outcome(twice=3), product="stock beat")


def printed(rows: list[Row], width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(table(rows))
    return out.getvalue()


def cells(text: str, title: str) -> list[str]:
    """Those of the line of a Markdown table that begins with ``title``."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_markdown_table_has_a_line_for_each_row_and_says_how_it_ended() -> None:
    text = markdown([GOOD, BAD, BROKEN])
    heads = cells(text, "fault")
    good = dict(zip(heads, cells(text, GOOD.fault.title)))
    bad = dict(zip(heads, cells(text, BAD.fault.title)))
    assert (good["expected"], good["lost"], good["worst"], good["verdict"]) == ("10", "0", "4 ms", "pass")
    assert (bad["lost"], bad["verdict"]) == ("2", "FAIL")
    assert dict(zip(heads, cells(text, BROKEN.fault.title)))["verdict"] == "FAIL"
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {len(heads) + 1}


def test_what_our_own_rows_come_to_is_said_in_a_sentence() -> None:
    assert markdown([GOOD, BAD, BROKEN, PEER]).splitlines()[1] == (
        "1 of 3 drills passed; 20 occurrences were due, 2 lost, 0 doubled, "
        "0 repeated under the same task id, 0 excused, 0 early."
    )


def test_products_are_named_only_where_there_are_others() -> None:
    assert "product" not in cells(markdown([GOOD]), "fault")
    lines = [line for line in markdown([GOOD, PEER]).splitlines() if FAULTS["kill"].title in line]
    assert ["celery-dispatch" in lines[0], "stock beat" in lines[1]] == [True, True]
    assert lines[1].rstrip(" |").endswith("fail")


def test_findings_that_nobody_had_get_no_column() -> None:
    assert "repeated" not in cells(markdown([GOOD]), "fault")
    again = replace(GOOD, outcome=outcome())
    history = (again.outcome or outcome()).record.arrivals
    repeated = judge(SCHEDULE, [*history, history[0]], anchor=ANCHOR, until=END)
    again = replace(again, outcome=replace(outcome(), verdict=repeated))
    assert "repeated" in cells(markdown([GOOD, again]), "fault")


def test_the_json_says_what_was_seen_and_is_json() -> None:
    found = json.loads(json.dumps(document([GOOD, BAD, BROKEN, PEER])))
    good, bad, broken, peer = found["faults"]
    assert (good["name"], good["passed"], good["expected"], good["lost"]) == ("kill", True, 10, 0)
    assert (good["lag_ms"]["worst"], good["lag_ms"]["bound"], good["machine_stall_ms"]) == (4.0, 700.0, 1.5)
    assert (good["seconds"], good["struck"]) == (21.0, [2.0, 10.0])
    assert (bad["passed"], bad["lost"], len(bad["problems"])) == (False, 2, 1)
    assert (broken["passed"], broken["problems"]) == (False, [BROKEN.error])
    assert (peer["name"], peer["product"], peer["doubled_other_id"]) == ("kill-stock-beat", "stock beat", 3)
    assert found["versions"]["celery-dispatch"]


def test_the_table_fits_120_columns_with_the_longest_titles_and_every_column() -> None:
    long = Fault("long", "a fault with a title that needs two lines at the least", lambda stage: None)
    rows = [GOOD, BAD, BROKEN, PEER, Row(long, outcome(without=1, twice=1))]
    lines = printed(rows).splitlines()
    assert max(map(len, lines)) <= 120
    assert any(line.rstrip().endswith("FAIL") for line in lines)
    assert any("stock beat" in line and line.rstrip().endswith("fail") for line in lines)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[str | None] = []
        self.ids: set[str | None] = set()
        self.targets: set[str | None] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found["src"])
        if "id" in found:
            self.ids.add(found["id"])
        if (target := found.get("href") or "").startswith("#"):
            self.targets.add(target[1:])


def test_everything_is_written_and_the_page_shows_each_plot(tmp_path: Path) -> None:
    write([GOOD, PEER, BROKEN], tmp_path / "new" / "drills")
    written = {path.name for path in (tmp_path / "new" / "drills").iterdir()}
    plots = {"kill.svg", "kill-stock-beat.svg"}
    assert written == {*plots, "results.json", "table.md", "index.html"}
    links = _Links()
    links.feed((tmp_path / "new" / "drills" / "index.html").read_text())
    assert set(links.images) == plots
    assert links.targets == links.ids == {"kill", "kill-stock-beat", "pause"}


def test_the_page_escapes_what_went_wrong() -> None:
    text = page([BROKEN, replace(BAD, outcome=outcome(complaint="node-1 said <script>"))])
    assert "&lt;no&gt; server" in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text


def test_the_rest_is_reckoned_from_what_is_known_or_from_the_mean() -> None:
    assert rest(["a", "b"], {"a": 10.0, "x": 30.0}) == 10 + 20
    assert rest(["a"], {}) > 0
    assert rest([], {"a": 10.0}) == 0


def test_drills_at_a_time_share_what_is_left_and_the_longest_one_bounds_it() -> None:
    known = {"a": 10.0, "b": 30.0, "c": 20.0}
    assert rest(["c"], known, running={"a": 4.0, "b": 10.0}, at_a_time=2) == (6 + 20 + 20) / 2
    assert rest([], known, running={"a": 9.0, "b": 0.0}, at_a_time=2) == 30


def test_what_befalls_others_does_not_count() -> None:
    assert [row.counts for row in (GOOD, PEER)] == [True, False]
    assert not PEER.passed
