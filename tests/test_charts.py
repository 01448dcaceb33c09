"""Charts, whatever is in them: one well-formed picture, the same every time, nothing hidden."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.charts import BLUE, RED, WIDTH, Bars, draw_bars

SVG = "{http://www.w3.org/2000/svg}"
values = st.floats(0, 1e9, allow_nan=False)
charts = st.builds(
    Bars,
    st.text(max_size=200),
    st.just([("<&>", RED), ("later", BLUE)]),
    st.lists(st.tuples(st.text(max_size=30), st.tuples(values, values)), max_size=100),
)


@given(charts)
def test_bars_are_one_well_formed_picture_that_fits(chart: Bars) -> None:
    drawn = draw_bars(chart)
    root = ElementTree.fromstring(drawn)
    assert root.tag == f"{SVG}svg"
    assert drawn == draw_bars(chart)
    for rect in root.iter(f"{SVG}rect"):
        left, wide = float(rect.get("x", "0")), float(rect.get("width", "0"))
        assert 0 <= left <= left + wide <= WIDTH


@pytest.mark.parametrize("most", [1, 3, 9, 10, 11, 99, 120, 1_000_001])
def test_a_small_part_is_seen_beside_a_large_one(most: int) -> None:
    root = ElementTree.fromstring(draw_bars(Bars("", [("a", RED), ("b", BLUE)], [("", (1, most))])))
    talls = {
        rect.get("class"): float(rect.get("height", "0"))
        for rect in root.iter(f"{SVG}rect")
        if rect.find(f"{SVG}title") is not None
    }
    assert talls["c0"] >= 2
    assert sum(talls.values()) <= 142


def test_where_there_is_nothing_it_says_so() -> None:
    drawn = draw_bars(Bars("Lost", [("lost", RED)], [("1 Nov", (0,))], empty="nothing was lost"))
    assert "nothing was lost" in drawn
