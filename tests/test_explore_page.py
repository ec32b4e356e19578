"""The local page in a real browser: Debian's Chromium through the main paths, wide and narrow."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from explore_browser import (
    ANY_WEBGL,
    CONTRAST,
    NARROW,
    WIDE,
    labels_of,
    needs_chromium,
    places_in,
    said,
    until,
    wait_for_map,
)
from explore_helpers import HOSTILE, points_session, served

from clusterloom.explore.session import Session

pytest_plugins = ("explore_browser",)
pytestmark = needs_chromium


def is_drawn(page):
    """Whether the points' canvas has something on it."""
    return page.evaluate(
        """async () => {
          const canvas = document.querySelector("#map .points");
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
          const choice = document.getElementById("colour-by");
          const colour = (by) => { choice.value = by; choice.dispatchEvent(new Event("change")); };
          await new Promise((done) => { colour("doubt"); requestAnimationFrame(() => {
            copy.drawImage(canvas, 0, 0); done(); }); });
          colour("cluster");
          return copy.getImageData(0, 0, canvas.width, canvas.height).data.some((v) => v > 0);
        }"""
    )


def test_map_hover_lasso_and_move(open_page, client, session):
    page = open_page("map")
    wait_for_map(page)
    assert page.evaluate("document.querySelector('#map .points').getContext('webgl2') !== null")
    assert is_drawn(page)
    box = page.locator("#map").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    # Over the thumbnails one after the other, until a card appears.
    page.mouse.move(*middle)
    positions = session.collection.predictions.position
    side = min(box["width"], box["height"])
    for x, y in positions[:20].astype(float):
        page.mouse.move(middle[0] + (x - 0.5) * (side - 90), middle[1] - (y - 0.5) * (side - 90))
        if page.locator(".hover-card").is_visible():
            break
    until(page, "!['', '…'].includes(document.querySelector('.hover-card .id').textContent)")
    assert re.search(r"kind \d/", page.locator(".hover-card .id").inner_text())
    assert "%" in page.locator(".hover-card").inner_text()
    # A lasso around everything, and one around a half.
    page.click("#lasso")
    corners = [(4, 50), (box["width"] - 4, 50), (box["width"] - 4, box["height"] - 4), (4, box["height"] - 4)]
    chosen = "parseInt(document.querySelector('#selection h2').textContent)"
    for width, expected in ((1, f"{chosen} === 90"), (0.5, f"{chosen} >= 5 && {chosen} < 90")):
        page.mouse.move(box["x"] + corners[0][0], box["y"] + corners[0][1])
        page.mouse.down()
        for x, y in corners[1:]:
            page.mouse.move(box["x"] + max(4, x * width), box["y"] + y, steps=4)
        page.mouse.up()
        until(page, expected)
    page.click("#lasso")
    # What is chosen becomes a new cluster; undo brings it back.
    before = labels_of(client)
    page.select_option("#move-to", "new")
    page.click("#selection button.primary")
    said(page, "moved to cluster 3")
    assert labels_of(client).count(b"\x03\x00") >= 1
    assert page.locator("#cluster-3").count() == 1
    page.click("#undo")
    said(page, "Undone")
    assert labels_of(client) == before
    page.click("#redo")
    said(page, "Done again")
    page.keyboard.press("Control+z")
    until(page, "document.getElementById('undo').disabled")
    assert labels_of(client) == before


def places_on(page, session):
    """The map's box, and where in it each image lies while all of them are shown, shape (N, 2)."""
    box = page.locator("#map").bounding_box()
    position = session.collection.predictions.position.astype(float)
    return box, places_in(box["width"], box["height"], position)


def test_the_pointer_finds_the_nearest_point_far_and_near(open_page, session):
    page = open_page("map")
    wait_for_map(page)
    page.click("#as-images")  # dots alone
    until(page, "document.getElementById('map').dataset.drawn === '0'")
    box, places = places_on(page, session)
    rng = np.random.default_rng(0)
    for zoom in (1, 4):
        if zoom > 1:
            corner = np.array([box["x"], box["y"]])
            at = np.rint(corner + places[0])  # whole pixels, which the browser rounds to
            fixed = at - corner
            page.mouse.move(*at)
            page.mouse.wheel(0, -1000)  # d3-zoom: twice as near for every 500
            until(page, f"document.querySelector('#map .overlay').__zoom.k > {zoom - 0.01}")
            places = fixed + zoom * (places - fixed)
        tried = 0
        for aim in np.rint(np.tile(places, (4, 1)) + rng.uniform(-9, 9, (360, 2))):
            distance = np.sort(np.linalg.norm(places - aim, axis=1))
            is_clear = 60 < aim[0] < box["width"] - 60 and 60 < aim[1] < box["height"] - 60
            if tried == 12 or not is_clear or distance[0] > 12 or distance[1] - distance[0] < 3:  # whole pixels
                continue
            tried += 1
            page.mouse.move(box["x"] + aim[0], box["y"] + aim[1])
            row = np.linalg.norm(places - aim, axis=1).argmin()
            until(
                page, f"document.querySelector('.hover-card img')?.getAttribute('src').startsWith('/image/{row}.png')"
            )
        assert tried > 3
    spots = rng.uniform(3, (box["width"] - 3, box["height"] - 3), (100, 2))
    empty = max(spots, key=lambda spot: np.linalg.norm(places - spot, axis=1).min())  # a corner may have a point
    page.mouse.move(box["x"] + empty[0], box["y"] + empty[1])
    until(page, "document.querySelector('.hover-card').hidden")


def test_pointing_draws_no_points_anew_and_moving_does(open_page, session):
    page = open_page("gallery")
    page.add_init_script(
        "{ const { prototype } = WebGL2RenderingContext; const draw = prototype.drawArrays; window.draws = 0;"
        "prototype.drawArrays = function (...all) { window.draws += 1; return draw.apply(this, all); }; }"
    )
    page.reload()
    page.wait_for_selector("html[data-started]")
    page.evaluate("location.hash = '/map'")
    wait_for_map(page)
    box, places = places_on(page, session)
    places += [box["x"], box["y"]]
    page.mouse.move(*places[0])
    page.wait_for_timeout(300)
    before = page.evaluate("window.draws")
    assert before > 0
    cards = set()
    for place in places[:40]:
        page.mouse.move(*place)
        cards.add(page.evaluate("document.querySelector('.hover-card img')?.src"))
    page.wait_for_timeout(100)
    assert len(cards) > 2
    assert page.evaluate("window.draws") == before
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 9, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    until(page, f"window.draws > {before}")
    page.wait_for_timeout(300)
    before = page.evaluate("window.draws")
    page.keyboard.down("Control")
    page.mouse.click(places[0][0] + 9, places[0][1])
    page.keyboard.up("Control")
    page.wait_for_selector("#selection h2:has-text('1 image selected')")
    until(page, f"window.draws > {before}")  # what is selected looks different


def test_map_by_keyboard_and_by_search(open_page, session):
    page = open_page("map")
    wait_for_map(page)
    page.focus("#map")
    page.keyboard.press("+")
    for _ in range(3):
        page.keyboard.press("+")
    page.wait_for_timeout(200)
    page.fill("#search-text", "picture 33")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found .tile")
    page.wait_for_selector("#image-details h2:has-text('picture 33.png')")
    page.get_by_role("button", name="On the map").click()
    page.focus("#map")
    is_selected = "document.querySelector('#selection h2')?.textContent.includes('1 image selected')"
    for i in range(30):  # some image lies in one of the four directions; a busy machine may bring it there late
        page.keyboard.press(("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown")[i % 4])
        page.wait_for_timeout(200)
        if "kind" in page.locator("#whisper").inner_text():
            page.keyboard.press("Space")
            for _ in range(15):  # another press would take the selection back
                page.wait_for_timeout(200)
                if page.evaluate(is_selected):
                    break
        if page.evaluate(is_selected):
            break
    assert page.evaluate(is_selected)
    page.keyboard.press("Enter")
    page.wait_for_timeout(200)
    assert page.locator("#image-details h2").inner_text() in page.locator("#whisper").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_selector("#selection h2:has-text('Nothing selected')")


def test_without_webgl_the_map_is_drawn_all_the_same(open_page):
    page = open_page("gallery")
    page.add_init_script(
        "{ const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        "  return kind === 'webgl2' ? null : get.call(this, kind, ...rest); }; }"
    )
    page.reload()
    page.wait_for_selector("html[data-started]")
    page.evaluate("location.hash = '/map'")
    wait_for_map(page)
    assert page.evaluate("document.querySelector('#map .points').getContext('2d') !== null")
    assert is_drawn(page)


@pytest.fixture(scope="module")
def many_points(tmp_path_factory):
    """A server of 420,000 points, most of them in one spot, and a thousand far apart; and where those are."""
    rng = np.random.default_rng(0)
    position = 0.5 + rng.normal(0, 0.003, (420_000, 2))
    apart = np.sort(rng.permutation(len(position))[:1000])
    position[apart] = np.stack(np.divmod(np.arange(1000), 32), 1) / 31
    with served(points_session(tmp_path_factory.mktemp("points"), position)) as client:
        yield client, position[apart]


def test_of_very_many_points_all_are_drawn_once_the_map_rests(browser, many_points):
    client, places = many_points
    page = browser.new_context(viewport=WIDE).new_page()
    page.goto(client.address)
    page.wait_for_selector("#cluster-list .figure")
    page.click("#as-images")
    size = page.evaluate("(({ width, height }) => [width, height])(document.querySelector('#map .points'))")
    missing = """(places) => {
      const canvas = document.querySelector("#map .points");
      const [w, h] = [canvas.width, canvas.height];
      const { data } = canvas.getContext("2d").getImageData(0, 0, w, h);
      return places.filter(([px, py]) => {
        const near = [-2, -1, 0, 1, 2];
        return near.every((i) => near.every((j) => !data[4 * ((py + j) * w + px + i) + 3]));
      }).length;
    }"""
    pixels = places_in(*size, places).round().astype(int).tolist()
    until(page, f"({missing})({pixels}) === 0")
    page.mouse.move(600, 450)
    page.mouse.down()
    page.mouse.move(640, 450, steps=4)
    page.mouse.move(600, 450, steps=4)
    page.mouse.up()
    until(page, f"({missing})({pixels}) === 0")
    page.context.close()


def test_a_graphics_processor_draws_a_sample_while_the_map_moves(browser, many_points):
    client, _ = many_points
    page = browser.new_context(viewport=WIDE).new_page()
    page.add_init_script(ANY_WEBGL)
    page.add_init_script("""{
      const { prototype } = WebGL2RenderingContext;
      const draw = prototype.drawArrays;
      window.counts = [];
      prototype.drawArrays = function (kind, from, n) {
        window.counts.push(n, this.getError());
        return draw.call(this, kind, from, n);
      };
    }""")
    page.goto(client.address)
    page.wait_for_selector("#cluster-list .figure")
    until(page, "window.counts.at(-2) === 420000")
    page.mouse.move(600, 450)
    page.mouse.down()
    page.mouse.move(640, 470, steps=3)
    until(page, "window.counts.includes(210000)")  # the map rests soon: it may be whole again by now
    page.mouse.up()
    until(page, "window.counts.at(-2) === 420000")
    assert page.evaluate("window.counts.filter((_, i) => i % 2).every((error) => error === 0)")
    page.context.close()


def test_gallery_scrolls_names_merges_and_splits(open_page, client, session):
    largest = int(session.collection.predictions.sizes.argmax())
    other = (largest + 1) % 3
    page = open_page(f"gallery/{largest}")
    page.wait_for_selector("#gallery .tile")
    page.fill("#cluster-name", "<b>bags</b>")
    page.click("text=Rename")
    said(page, "is called “<b>bags</b>”")
    page.wait_for_selector("#cluster-list .title:has-text('<b>bags</b>')")
    page.click("#merge")
    page.select_option("#merge-with", str(other))
    page.click("#merge-take")
    said(page, "is now part of <b>bags</b>")
    size = int((session.collection.assignment.labels == largest).sum())
    page.wait_for_selector(f"#gallery h2:has-text('{size} images')")
    page.wait_for_selector("#gallery .tile")
    page.locator(".sentinel").scroll_into_view_if_needed()
    page.wait_for_selector(f"text={size} of {size} images shown")
    assert page.locator("#gallery .tile").count() == size
    page.click("#split")
    page.wait_for_selector("dialog[open] .halves .tile")
    assert page.locator("dialog .halves section").count() == 2
    page.get_by_role("button", name="Split", exact=True).click()
    said(page, "has been split; cluster 3 is new")
    assert sorted(session.collection.assignment.names) == sorted({largest, 3, *range(3)} - {other})
    for _ in range(3):
        page.evaluate("document.getElementById('status').textContent = ''")
        page.click("#undo")
        said(page, "Undone")
    assert labels_of(client) == session.collection.predictions.labels.astype("<u2").tobytes()


def test_gallery_by_keyboard_and_find_similar(open_page, session):
    page = open_page("gallery/0")
    page.wait_for_selector("#gallery .tile")
    page.select_option("#order", "doubtful")
    until(page, "document.querySelector('#gallery .tile') !== null")
    page.wait_for_timeout(200)
    page.focus("#gallery .tile[tabindex='0']")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.wait_for_selector("#selection h2:has-text('1 image selected')")
    row = int(page.evaluate("document.activeElement.dataset.row"))
    assert row == session.collection.predictions.doubtful(0)[1]
    page.keyboard.press("Enter")
    page.click("#more-like-this")
    page.wait_for_selector("#found .tile")
    rows = [int(t.get_attribute("data-row")) for t in page.locator("#found .tile").all()]
    assert rows == [row, *session.collection.predictions.similar([row], 120)[0].tolist()]
    page.locator("#found-cutoff").fill("0.3")
    until(page, "document.querySelectorAll('#found .tile').length < 90")
    near = page.locator("#found .tile").count()
    page.click("#select-found")
    page.wait_for_selector(f"#selection h2:has-text('{near} images selected')")  # with the one that was asked about
    assert page.evaluate(f"document.querySelector('#found [data-row=\"{row}\"]').ariaSelected") == "true"
    page.click("#clear-selection")
    page.wait_for_selector("#selection h2:has-text('Nothing selected')")


def test_hostile_names_are_text(open_page):
    """File names with markup in them: a dialog, or a request for x, would be a complaint."""
    page = open_page("gallery/0")
    page.fill("#search-text", "onerror")
    page.keyboard.press("Enter")
    page.wait_for_selector("#image-details h2:has-text('onerror')")
    assert page.locator("#image-details h2").inner_text() == f"kind 0/{HOSTILE[0]}"
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("header h1").inner_text() == "model <b>"


def test_generate_walk_and_dimensions(open_page, session):
    page = open_page("generate/1")
    page.wait_for_selector("#generated canvas")
    assert page.locator("#generated canvas").count() == 24
    pixels = "document.querySelector('#generated canvas').toDataURL()"
    before = page.evaluate(pixels)
    page.locator("#spread").fill("0.2")
    until(page, f"{pixels} !== {json.dumps(before)}")
    page.click("#more")
    until(page, "document.querySelectorAll('#generated canvas').length === 48")
    page.click("#save-generated")
    said(page, "48 new images in")
    saved = Path(page.locator("#status").inner_text().split(" in ", 1)[1])
    assert len(list(saved.iterdir())) == 48
    page.click("#tab-walk")
    page.wait_for_selector("#walk .film canvas")
    large = "document.querySelector('#walk .large').toDataURL()"
    start = page.evaluate(large)
    page.locator("#walk-position").fill("23")
    until(page, f"{large} !== {json.dumps(start)}")
    page.click("#walk-play")
    until(page, "Number(document.getElementById('walk-position').value) < 22")
    page.click("#walk-play")
    page.click("#tab-dimensions")
    page.wait_for_selector("#dimensions li canvas")
    assert page.locator("#dimensions li").count() == 4
    moved = "document.getElementById('latent-image').toDataURL()"
    page.wait_for_timeout(200)
    start = page.evaluate(moved)
    page.locator("#dimensions input[type=range]").first.fill("2.5")
    until(page, f"{moved} !== {json.dumps(start)}")


def test_a_walk_between_two_images(open_page):
    page = open_page("gallery/0")
    page.wait_for_selector("#gallery .tile")
    for index, name in ((0, "Walk from here"), (3, "Walk to here")):
        page.evaluate("location.hash = '/gallery/0'")
        page.locator("#gallery .tile").nth(index).click()
        page.get_by_role("button", name=name).click()
        page.wait_for_selector("#walk .film canvas")
    assert page.locator("#walk .end img").count() == 2


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.tagName")


def test_quick_edits_follow_each_other_and_the_focus_stays(open_page, tidy):
    page = open_page("gallery/0")
    page.focus("#cluster-1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#gallery h2:has-text('cluster 1')")
    assert focused(page) == "cluster-1"
    for name in ("first", "second"):
        page.fill("#cluster-name", name)
        page.press("#cluster-name", "Enter")
        page.wait_for_selector(f"#gallery h2:has-text('{name}')")
        until(page, "document.activeElement.matches('#gallery h2')")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.wait_for_selector("#gallery h2:has-text('cluster 1')")
    until(page, "document.getElementById('undo').disabled")
    assert page.input_value("#cluster-name") == ""
    page.fill("#search-text", "picture 3")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found .tile")
    page.get_by_label("Close what was found").click()
    assert focused(page) == "search-text"


def test_a_split_takes_what_its_preview_showed(open_page, client, session, tidy):
    page = open_page("gallery/0")
    page.click("#split")
    page.wait_for_selector("dialog[open] .halves .tile")
    client.edit({"op": "merge", "clusters": [0, 1], "into": 0})
    until(page, "document.getElementById('cluster-1') === null")
    page.get_by_role("button", name="Split", exact=True).click()
    said(page, "changed meanwhile")
    assert sorted(session.collection.assignment.names) == [0, 2]


def test_a_correction_leaves_the_gallery_where_it_was(open_page, client, tidy):
    client.edit({"op": "merge", "clusters": [0, 1, 2], "into": 0})
    page = open_page("gallery/0", {"width": 1000, "height": 400})
    page.wait_for_selector("#gallery .tile")
    page.locator(".sentinel").scroll_into_view_if_needed()
    page.wait_for_selector("text=90 of 90 images shown")
    tile = page.locator("#gallery .tile").nth(60)
    tile.click()
    row, neighbour = (page.locator("#gallery .tile").nth(n).get_attribute("data-row") for n in (60, 59))
    place = f"document.querySelector('#gallery [data-row=\"{neighbour}\"]').getBoundingClientRect().top"
    before = page.evaluate(place)
    assert page.evaluate("document.getElementById('main').scrollTop") > 300
    client.edit({"op": "name", "cluster": 0, "name": "all"})
    until(page, "document.activeElement.ariaLabel?.includes('all')")
    assert page.evaluate("document.activeElement.dataset.row") == row
    assert page.evaluate(place) == pytest.approx(before, abs=1)
    page.keyboard.press("Space")
    page.wait_for_selector("#move")
    page.focus("#move")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=89 of 89 images shown")
    page.wait_for_selector("#selection h2:has-text('Nothing selected')")
    assert page.evaluate("document.activeElement.matches('#selection h2')")
    assert page.evaluate(place) == pytest.approx(before, abs=1)


def test_the_gallery_asks_once_and_only_in_view_and_leaves_nothing_behind(open_page, client):
    page = open_page("gallery/0")
    page.wait_for_selector("#gallery .tile")
    asked = []
    page.on("request", lambda r: asked.append(r.url) if r.url.endswith("/api/briefs") else None)
    browser = page.context.new_cdp_session(page)

    def nodes():
        browser.send("HeapProfiler.collectGarbage")
        return browser.send("Memory.getDOMCounters")["nodes"]

    before = nodes()
    for cluster in (1, 2, 0) * 3:
        page.evaluate(f"location.hash = '/gallery/{cluster}'")
        page.wait_for_selector(f"#gallery h2:has-text('cluster {cluster}')")
        page.wait_for_selector("#gallery .tile")
    assert len(asked) == 9
    assert nodes() < 1.5 * before
    page.evaluate("location.hash = '/map/1'")
    page.wait_for_selector("#cluster-1[aria-current='true']")
    page.wait_for_timeout(200)
    assert len(asked) == 9


def test_generate_follows_the_address_and_the_clusters(open_page, client, session, tidy):
    rows = np.flatnonzero(session.collection.predictions.labels == 0)[:9].tolist()
    client.edit({"op": "move", "rows": rows, "to": 3})
    page = open_page("generate/1")
    page.wait_for_selector("#generated canvas")
    page.select_option("#generate-cluster", "2")
    until(page, "location.hash === '#/generate/2'")
    page.click("#cluster-1")
    until(page, "document.getElementById('generate-cluster').value === '1'")
    page.click("#tab-walk")
    page.wait_for_selector("#walk .film canvas")
    page.select_option("#walk-from", "3")
    page.click("#walk-play")
    until(page, "document.getElementById('walk-position').value !== '0'")
    with page.expect_request(lambda r: r.url.endswith("/api/walk")) as asked:
        client.edit({"op": "undo"})
    assert page.input_value("#walk-from") == "0"
    assert asked.value.post_data_json["from"] == {"cluster": 0}
    page.evaluate("location.hash = '/map'")
    until(page, "document.getElementById('walk-play').ariaPressed === 'false'")


def test_a_narrow_window_shows_what_is_chosen_and_found(open_page, client):
    page = open_page("generate/2", NARROW, has_touch=True)
    page.fill("#search-text", "picture 3")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found .tile")
    in_sight = """(selector) => { const { top, bottom } = document.querySelector(selector).getBoundingClientRect();
        return bottom > top && top >= 0.3 * innerHeight && top < innerHeight - 60; }"""
    assert page.evaluate(in_sight, "#found .tile")
    assert not page.locator("#image-details").is_visible()
    page.locator("#found .tile").first.tap()
    page.wait_for_selector("#image-details .bars")
    assert page.evaluate(in_sight, "#image-details h2")
    page.get_by_label("Close the details").tap()
    assert not page.locator("#image-details").is_visible()
    page.evaluate("location.hash = '/gallery/2'")
    page.wait_for_selector("#gallery .tile")
    page.locator("#gallery .tile .tick").first.tap()
    page.wait_for_selector("#selection h2:has-text('1 image selected')")
    assert page.evaluate(in_sight, "#selection h2")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    current = page.locator("#cluster-2").bounding_box()
    assert current["x"] >= 0
    assert current["x"] + current["width"] <= NARROW["width"]


def test_a_moved_image_has_no_probability_of_its_new_cluster(open_page, client, session, tidy):
    row = int(np.flatnonzero(session.collection.predictions.labels == 0)[0])
    client.edit({"op": "move", "rows": [row], "to": 3})
    assert client.get_json("/api/state")["clusters"][3]["confidence"] is None
    page = open_page("gallery/3")
    tile = page.locator("#gallery .tile")
    tile.click()
    assert tile.get_attribute("aria-label").endswith("cluster 3, moved by hand")
    page.click("#choose-image:has-text('Select')")
    page.wait_for_selector("#choose-image:has-text('Unselect')")
    # A picture dropped in belongs where the images of its cluster are now.
    client.edit({"op": "merge", "clusters": [0, 1], "into": 1})
    until(page, "document.getElementById('cluster-0') === null")
    page.evaluate("location.hash = '/try'")
    page.set_input_files("#drop-file", str(session.source / session.collection.images.ids[row]))
    page.wait_for_selector("#drop-result h2:has-text('cluster 1')")
    assert "The model says cluster 0" in page.locator("#drop-result").inner_text()


def test_a_picture_dropped_in(open_page, session):
    page = open_page("try")
    row = 40
    page.set_input_files("#drop-file", str(session.source / session.collection.images.ids[row]))
    page.wait_for_selector("#drop-result .pair canvas")
    assert page.locator("#drop-result .pair canvas").count() == 2
    assert page.locator("#drop-result .tile").first.get_attribute("data-row") == str(row)
    assert f"cluster {session.collection.predictions.labels[row]}" in page.locator("#drop-result h2").inner_text()
    page.set_input_files("#drop-file", {"name": "x.png", "mimeType": "image/png", "buffer": b"nothing of the kind"})
    page.wait_for_selector("#drop-result [role=alert]:has-text('not one of the formats')")
    assert page.locator("#drop-result .pair").count() == 0  # nothing of the picture before stands under its name


def test_export_from_the_page(open_page, session):
    page = open_page("gallery/0")
    page.wait_for_selector("#gallery .tile")
    page.click("summary")
    page.click("[data-save=csv]")
    said(page, "Labels of 90 images in")
    assert Path(page.locator("#status").inner_text().split(" in ", 1)[1]).read_text().count("\n") == 91
    page.locator("#gallery .tile .tick").first.click()
    page.get_by_role("button", name="Save links").click()
    said(page, "1 image in")
    (link,) = Path(page.locator("#status").inner_text().split(" in ", 1)[1]).glob("*.png")
    assert link.is_symlink()


def test_two_pages_see_each_others_edits(open_page, session, client):
    one, two = open_page("gallery/0"), open_page("gallery/0")
    for page in (one, two):
        page.wait_for_selector("#gallery .tile")
    one.fill("#cluster-name", "first")
    one.click("text=Rename")
    said(one, "is called “first”")
    two.wait_for_selector("#cluster-list .title:has-text('first')", timeout=15000)
    one.click("#undo")
    said(one, "Undone")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_narrow_window(open_page, scheme):
    page = open_page("map", NARROW, color_scheme=scheme, has_touch=True)
    wait_for_map(page)
    for view in ("map", "gallery", "gallery/1", "generate/1", "try"):
        page.evaluate(f"location.hash = '/{view}'")
        for tab in ("new-images", "walk", "dimensions") if view.startswith("generate") else ("",):
            if tab:
                page.click(f"#tab-{tab}")
            page.wait_for_timeout(250)
            assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], (view, tab)
        assert page.locator("#views").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_and_everything_has_a_name(open_page, scheme):
    page = open_page("gallery/0", color_scheme=scheme)
    page.wait_for_selector("#gallery .tile")
    page.locator("#gallery .tile").first.click()
    page.wait_for_selector("#image-details dl")
    page.locator("#gallery .tile .tick").nth(1).click()
    page.wait_for_selector("#selection form")
    for view in ("map", "gallery/0", "gallery", "generate/0", "try"):
        page.evaluate(f"location.hash = '/{view}'")
        page.wait_for_timeout(150)
        assert page.evaluate(CONTRAST) == []
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("button, a, input, select, [role=option], [role=tab]")]
                .filter((e) => e.checkVisibility())
                .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML)"""
        )
        assert unnamed == []
        assert page.evaluate("[...document.querySelectorAll('img')].every((i) => i.hasAttribute('alt'))")
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids))


def test_a_model_without_images_shows_what_it_can(browser, session):
    alone = Session(session.model, session.path, None)
    alone.start(lambda: None)
    with served(alone) as client:
        page = browser.new_page(viewport=WIDE)
        complaints = []
        page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
        page.goto(client.address)
        page.wait_for_selector("#generated canvas")
        assert not page.locator("#to-map").is_visible()
        assert not page.locator("#details").is_visible()
        page.click("#tab-walk")
        page.wait_for_selector("#walk .film canvas")
        page.click("#to-try")
        page.set_input_files("#drop-file", str(session.source / session.collection.images.ids[40]))
        page.wait_for_selector("#drop-result .pair canvas")
        page.close()
    assert complaints == []
