import re
from pathlib import Path

from addon.platform.schema.deviations import DEVIATIONS

PAGE = Path(__file__).parents[4] / "docs" / "platform-api.md"


def test_the_page_lists_every_deviation_with_its_reason() -> None:
    table = PAGE.read_text().split("## Deviations")[1]
    listed = re.findall(r"^\| `(.+)` \| (.+) \|$", table, re.MULTILINE)
    expected = [(each.at.removeprefix("definitions/"), each.reason) for each in DEVIATIONS]
    assert listed == expected


def test_no_place_has_two_deviations() -> None:
    places = [each.at for each in DEVIATIONS]
    assert len(set(places)) == len(places)
