from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.drills.checker import Arrival, judge
from tests.drills.oracle import Every, dues
from tests.drills.plot import WIDTH, Sheet, draw
from tests.drills.record import Record, Spell
from tests.drills.scene import NOBODY, Scene, Tick, counted, scene_of
from tests.drills.stage import Outcome

ANCHOR = 1_800_000_000_123
END = ANCHOR + 10_400
SCHEDULE = {"first": Every(1), "second <&>": Every(1)}
BEATS = ("node-1", "node-2")
SVG = "{http://www.w3.org/2000/svg}"


def good() -> list[Arrival]:
    """Each beat sends an entry of its own, on time."""
    return [
        Arrival(name, due, f"{name}@{due}", (due + 4) * 1000, node=f"{beat}-0a1b2c3d")
        for beat, (name, rule) in zip(BEATS, SCHEDULE.items())
        for due in dues(rule, anchor=ANCHOR, until=END)
    ]


def scene(arrivals: list[Arrival], *, spells: tuple[Spell, ...] = (), title: str = "a fault") -> Scene:
    verdict = judge(SCHEDULE, arrivals, anchor=ANCHOR, until=END)
    record = Record(ANCHOR, END, ANCHOR, BEATS, tuple(arrivals), spells, (ANCHOR + 3000, ANCHOR + 5000))
    events = ((ANCHOR + 3000, "SIGKILL to node-2"), (ANCHOR + 3010, "it is <gone>"), (END, "end"))
    outcome = Outcome(verdict=verdict, bound=700, events=events, stall=0, logs=None, record=record)  # type: ignore[arg-type]
    return scene_of(outcome, title=title, lines=["a line"])


def drawn(found: Scene) -> ElementTree.Element:
    return ElementTree.fromstring(draw(found))


def marks(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    """The rectangles whose classes include ``kind``."""
    return [it for it in root.iter(f"{SVG}rect") if kind in it.get("class", "").split()]


def left(element: ElementTree.Element) -> float:
    return float(element.get("x", "nan"))


def right(element: ElementTree.Element) -> float:
    return left(element) + float(element.get("width", "nan"))


def lane_of(sheet: Sheet, mark: ElementTree.Element) -> list[str]:
    """The lanes that a mark lies in as a whole."""
    top = float(mark.get("y", "nan"))
    bottom = top + float(mark.get("height", "nan"))
    return [
        name
        for name in sheet.scene.lanes
        if sheet.lane(name) <= top and bottom <= sheet.lane(name) + sheet.height(name)
    ]


# --- how an occurrence looks --------------------------------------------------------------------------------


def looks(arrivals: list[Arrival]) -> dict[str, int]:
    return counted(scene(arrivals).ticks)


def late(arrival: Arrival, lag: int) -> Arrival:
    return Arrival(
        arrival.entry, arrival.due, arrival.task_id, ((arrival.due or 0) + lag) * 1000, node=arrival.node
    )


def test_a_faultless_run_is_all_on_time() -> None:
    assert looks(good()) == {"on-time": 20}


@pytest.mark.parametrize(
    "lag, look", [(50, "on-time"), (51, "late"), (700, "late"), (701, "too-late"), (-1, "wrong")]
)
def test_an_arrival_looks_by_its_lag(lag: int, look: str) -> None:
    history = good()
    history[3] = late(history[3], lag)
    assert looks(history).get(look) == (20 if look == "on-time" else 1)


def test_an_occurrence_that_never_arrived_is_nobodys() -> None:
    history = good()
    lost = history.pop(3)
    assert [tick for tick in scene(history).ticks if tick.lane == NOBODY] == [
        Tick(NOBODY, lost.entry, lost.due or 0, None, "lost")
    ]


def test_an_occurrence_that_was_sent_twice_is_seen_in_both_lanes() -> None:
    history = good()
    again = Arrival("first", history[3].due, "other", history[3].at + 9000, node="node-2-0a1b2c3d")
    ticks = [tick for tick in scene([*history, again]).ticks if tick.look == "twice"]
    assert [tick.lane for tick in ticks] == ["node-1", "node-2"]


def test_a_message_of_no_occurrence_stands_where_it_arrived() -> None:
    odd = Arrival("third", None, "x", (ANCHOR + 4000) * 1000)
    (tick,) = (tick for tick in scene([*good(), odd]).ticks if tick.look == "wrong")
    assert (tick.due, tick.lane) == (ANCHOR + 4000, "unknown")


def test_what_is_due_after_the_judged_time_is_not_drawn() -> None:
    after = Arrival("first", ANCHOR + 11_000, "x", (ANCHOR + 11_004) * 1000)
    assert looks([*good(), after]) == {"on-time": 20}


# --- where it is drawn --------------------------------------------------------------------------------------


def test_every_occurrence_is_one_tick_in_its_lane_at_its_due() -> None:
    history = good()
    del history[12]
    found = scene(history)
    sheet = Sheet.of(found)
    ticks = marks(drawn(found), "tick")
    assert len(ticks) == 20 == len(found.ticks)
    for tick, mark in zip(found.ticks, ticks):
        assert lane_of(sheet, mark) == [tick.lane]
        assert abs((left(mark) + right(mark)) / 2 - sheet.x(tick.due)) < 0.1
        assert tick.look in mark.get("class", "")


def test_equal_spans_of_time_are_equally_wide() -> None:
    sheet = Sheet.of(scene(good()))
    second = sheet.x(ANCHOR + 1000) - sheet.x(ANCHOR)
    assert sheet.x(ANCHOR + 7000) - sheet.x(ANCHOR) == pytest.approx(7 * second)
    assert 0 < sheet.x(ANCHOR) < sheet.x(END) < WIDTH


def test_two_entries_never_share_a_row() -> None:
    sheet = Sheet.of(scene(good()))
    one, other = (Tick("node-1", entry, ANCHOR, None, "on-time") for entry in SCHEDULE)
    assert sheet.y(other) - sheet.y(one) >= sheet.row > 0


def test_only_what_is_late_has_a_tail_and_it_ends_at_the_arrival() -> None:
    history = good()
    history[3] = late(history[3], 500)
    found = scene(history)
    (tail,) = marks(drawn(found), "tail")
    sheet = Sheet.of(found)
    assert left(tail) == pytest.approx(sheet.x(history[3].due or 0), abs=0.1)
    assert right(tail) == pytest.approx(sheet.x(history[3].at / 1000), abs=0.1)


def test_the_fault_is_shaded_from_its_beginning_to_its_end() -> None:
    found = scene(good())
    shade = marks(drawn(found), "fault")[0]
    sheet = Sheet.of(found)
    assert left(shade) == pytest.approx(sheet.x(ANCHOR + 3000), abs=0.1)
    assert right(shade) == pytest.approx(sheet.x(ANCHOR + 5000), abs=0.1)


def test_a_beat_is_shaded_in_its_lane_and_a_server_over_all_lanes() -> None:
    spells = (
        Spell("node-2", "dead", ANCHOR + 3000),
        Spell("Redis", "away", ANCHOR + 6000, ANCHOR + 7000, server=True),
    )
    found = scene(good(), spells=spells)
    sheet, root = Sheet.of(found), drawn(found)
    dead, away = marks(root, "spell")[0], marks(root, "server")[0]
    assert lane_of(sheet, dead) == ["node-2"]
    assert (left(dead), right(dead)) == pytest.approx((sheet.x(ANCHOR + 3000), sheet.x(END)), abs=0.1)
    assert (left(away), right(away)) == pytest.approx(
        (sheet.x(ANCHOR + 6000), sheet.x(ANCHOR + 7000)), abs=0.1
    )
    assert float(away.get("y", "nan")) < sheet.top
    assert float(away.get("y", "nan")) + float(away.get("height", "nan")) > sheet.bottom


def test_the_marks_of_events_do_not_cover_each_other() -> None:
    circles = list(drawn(scene(good())).iter(f"{SVG}circle"))
    places = [(float(it.get("cx", "nan")), float(it.get("cy", "nan"))) for it in circles]
    assert len(places) == 3
    assert abs(places[0][1] - places[1][1]) >= 16  # ten milliseconds apart: one above the other
    assert places[0][1] == places[2][1]


def test_nothing_is_drawn_below_the_sheet() -> None:
    root = drawn(scene(good()))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    lowest = max(float(it.get("y", 0)) for it in root.iter() if it.tag in (f"{SVG}text", f"{SVG}rect"))
    assert width == WIDTH
    assert lowest < height < lowest + 40


# --- words --------------------------------------------------------------------------------------------------


def test_what_people_named_is_escaped_and_control_characters_are_left_out() -> None:
    root = drawn(scene(good(), title="<b>&\x1b[31m\x00"))
    words = [text for it in root.iter() if (text := it.text)]
    assert "<b>&[31m" in words
    assert "it is <gone>" in words


def test_the_title_says_the_verdict() -> None:
    history = good()
    assert "✓ pass" in draw(scene(history))
    history.pop()
    assert "✗ FAIL" in draw(scene(history))
