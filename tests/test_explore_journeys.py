"""Paths that a user takes from one view of the local page to another, at several widths."""

import numpy as np
import pytest
from explore_browser import CONTRAST, needs_chromium, until

pytest_plugins = ("explore_browser",)
pytestmark = needs_chromium

SIZES = {width: {"width": width, "height": 844} for width in (1600, 1024, 920, 390)}
every_width = pytest.mark.parametrize("width", SIZES)


def look_at(page, session, name):
    """Look at an image by way of its id; its row."""
    page.fill("#search-text", name)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#image-details h2:has-text('{name}')", state="attached")
    (row,) = [row for row, id_ in enumerate(session.collection.images.ids) if id_.endswith(f"/{name}")]
    return row


def centre_of(page):
    """The map's scale and what lies in the middle of it."""
    return page.evaluate(
        """() => { const { k, x, y } = document.querySelector("#map .overlay").__zoom;
        const { clientWidth: w, clientHeight: h } = document.getElementById("map");
        return [k, (w / 2 - x) / k, (h / 2 - y) / k, w, h]; }"""
    )


@every_width
def test_on_the_map_shows_the_image_in_the_middle_from_every_view(open_page, session, width):
    page = open_page("gallery", SIZES[width])
    for name, view in (("picture 33.png", "gallery/1"), ("picture 40.png", "generate/0"), ("picture 52.png", "try")):
        page.evaluate(f"location.hash = '/{view}'")
        page.wait_for_selector(f"body[data-view={view.split('/')[0]}]")
        row = look_at(page, session, name)
        if not page.locator("#image-on-map").is_visible():  # in a sheet, beside what was found
            page.get_by_role("button", name="Image", exact=True).click()
        page.click("#image-on-map")
        page.wait_for_selector("body[data-view=map]")
        until(page, "document.querySelector('#map .overlay').__zoom.k >= 12")
        until(page, "Number(document.getElementById('map').dataset.drawn) > 0")
        _, x, y, w, h = centre_of(page)
        side = min(w - 56, h - 84)
        corner = np.array([(w - side) / 2, 56 + (h - 84 - side) / 2])
        place = session.collection.predictions.position[row].astype(float)
        np.testing.assert_allclose([x, y], corner + side * np.array([place[0], 1 - place[1]]), atol=1)
        page.evaluate("document.getElementById('zoom-all').click()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_button_can_be_read_while_it_is_pointed_at(open_page, scheme):
    page = open_page("gallery/0", color_scheme=scheme)
    page.locator("#gallery .tile .tick").first.click()
    page.wait_for_selector("#move")
    page.evaluate("location.hash = '/map'")
    page.click("#lasso")
    for selector in ("#lasso", "#by-doubt", "#move", "#undo", "#views a[aria-current=page]", "#cluster-0", "summary"):
        page.hover(selector, force=True)
        assert page.evaluate(CONTRAST) == [], selector


def test_walk_from_here_is_kept_while_another_cluster_is_opened(open_page, session):
    labels = session.collection.predictions.labels
    first, last = (int(np.flatnonzero(labels == k)[0]) for k in (2, 0))
    page = open_page("map")
    page.click("#to-generate")
    page.click("#tab-walk")
    page.wait_for_selector("#walk .film canvas")
    page.evaluate("location.hash = '/gallery/2'")
    page.locator(f"#gallery .tile[data-row='{first}']").click()
    page.click("#image-walk-from")
    page.wait_for_selector("#walk .end img")
    page.evaluate("location.hash = '/gallery/0'")
    page.locator(f"#gallery .tile[data-row='{last}']").click()
    with page.expect_request(lambda r: r.url.endswith("/api/walk")) as asked:
        page.click("#image-walk-to")
    assert asked.value.post_data_json["from"] == {"row": first}
    assert asked.value.post_data_json["to"] == {"row": last}
    ends = page.locator("#walk .walk-end")
    assert "an image of cluster 2" in ends.nth(0).inner_text()
    assert "an image of cluster 0" in ends.nth(1).inner_text()
    assert not page.locator("#walk-from").is_visible()
    page.locator("#walk").get_by_role("button", name="use a cluster instead").first.click()
    assert page.locator("#walk-from").is_visible()
