"""The drawn cars: the part names are right for the azimuth, left and right are the car's own.

The server of the capture guide; the page itself is tested in test_guide.py.
"""

import http.client
import itertools
import shutil
import socket
import ssl
import threading

import imagehash
import make_demo_data
import numpy as np
import pytest
import serve_demo
import take_pictures
from make_demo_data import Region, draw_car, draw_close_up, draw_image

import config
from viewpoint.annotations.via import read_regions
from viewpoint.annotations.vocabulary import KNOWN
from viewpoint.common.cli import UserError
from viewpoint.common.images import open_image
from viewpoint.data.doubts import find_suspicions
from viewpoint.data.duplicates import find_conflicts, near_duplicates
from viewpoint.data.labeling import UNKNOWN_PARTS, extract_viewpoint_label, part_names
from viewpoint.data.scan import MIRRORED, read_dataset


def names_in(regions: list[Region]) -> set[str]:
    return part_names(read_regions(regions))


@pytest.fixture(params=["without pure side views", "with pure side views"])
def classes(request, monkeypatch) -> list[str]:
    """config.CLASSES, also with the pure side views as classes of their own."""
    if request.param == "with pure side views":
        monkeypatch.setattr(config, "CLASSES", [*config.CLASSES, "Left", "Right"])
    return config.CLASSES


# One van of twenty is so near that the frame cuts off its lamp on one side.
@pytest.mark.parametrize(("style", "fewest"), [("cars", 20), ("vans", 19)])
def test_the_parts_give_the_label_of_the_view(classes, style, fewest):
    views = make_demo_data.views()
    assert {*views, config.BACKGROUND} == set(classes)
    for label, view in views.items():
        azimuth = np.mean(view.azimuths)
        drawn = [draw_car(azimuth, np.random.default_rng(seed), view.heights, style=style) for seed in range(20)]
        assert sum(extract_viewpoint_label(regions) == label for _, regions, _ in drawn) >= fewest


def test_vans_at_dusk_are_much_darker_than_cars_by_day():
    grey = {
        style: np.mean([draw_image("Rear", np.random.default_rng(seed), style)[0].convert("L") for seed in range(10)])
        for style in make_demo_data.STYLES
    }
    assert grey["vans"] < 0.6 * grey["cars"]


def test_the_picture_of_the_readme_shows_every_class(classes, tmp_path):
    take_pictures.draw_viewpoints(tmp_path / "viewpoints.png")
    # Two rows of up to four, or three: below the title, photos of 200 x 150 pixels with a line of text each.
    rows = 3 if "Left" in classes else 2
    assert open_image(tmp_path / "viewpoints.png").size == (4 * 208 + 8, 40 + rows * (150 + 20 + 16))


@pytest.mark.parametrize(
    ("azimuth", "seen", "hidden"),
    [
        (0, {"frontbumper", "grille", "leftheadlamp", "rightheadlamp"}, {"rearbumper", "leftfrontdoor"}),
        (60, {"leftheadlamp", "leftfrontdoor", "leftfender"}, {"rightfrontdoor", "lefttaillamp", "rearws"}),
        (90, {"leftfrontdoor", "leftreardoor"}, {"frontbumper", "rearbumper", "rightfender", "rightorvm"}),
        (150, {"lefttaillamp", "rearbumper", "leftqpanel"}, {"frontws", "grille", "rightqpanel"}),
        (180, {"rearbumper", "lefttaillamp", "righttaillamp"}, {"frontbumper", "leftheadlamp"}),
        (300, {"rightheadlamp", "rightfrontdoor"}, {"leftfrontdoor", "righttaillamp"}),
    ],
)
def test_only_parts_that_can_be_seen_are_annotated(azimuth, seen, hidden):
    for seed in range(5):
        names = names_in(draw_car(azimuth, np.random.default_rng(seed))[1])
        assert seen <= names
        assert not hidden & names
        assert names <= KNOWN


def test_left_and_right_are_the_cars_own():
    """Seen from the car's left, its nose is at the left of the image; seen from the front, its left headlamp is
    in the right half."""

    def middle_x(azimuth: float, part: str) -> float:
        regions = draw_car(azimuth, np.random.default_rng(3))[1]
        [region] = [r for r in regions if r["region_attributes"]["identity"].endswith(part)]
        return np.mean(region["shape_attributes"]["all_points_x"])

    assert middle_x(90, "leftfrontdoor") < middle_x(90, "leftreardoor")
    assert middle_x(270, "rightfrontdoor") > middle_x(270, "rightreardoor")
    assert middle_x(0, "leftheadlamp") > middle_x(0, "rightheadlamp")
    assert middle_x(180, "lefttaillamp") < middle_x(180, "righttaillamp")


def test_polygons_lie_on_what_is_drawn():
    """The polygon of the left headlamp covers the pale yellow of the lamp."""
    image, regions, part_map = draw_car(30, np.random.default_rng(5))
    index = [r["region_attributes"]["identity"] for r in regions].index("leftheadlamp") + 1
    red, _, blue = np.asarray(image)[part_map == index].mean(axis=0)
    assert red > blue + 20


def test_scenes_and_close_ups_are_background():
    for seed in range(5):
        random = np.random.default_rng(seed)
        assert draw_image("scene", random)[1] == []
        _, regions = draw_close_up(random)
        assert len(regions) >= 1
        assert extract_viewpoint_label(regions) == "Background"


def test_close_ups_are_of_a_part_and_none_is_like_another():
    hashes, names = [], set()
    for seed in range(40):
        image, regions = draw_close_up(np.random.default_rng(seed))
        hashes.append(int(str(imagehash.dhash(image)), 16))
        names |= names_in(regions) - {"scratch"}
        pixels = np.asarray(image.convert("L"), float)
        assert np.hypot(*np.gradient(pixels)).max() > 20  # edges of the part and its neighbours, no even area
    assert len(names) > 8
    pairs = [(a ^ b).bit_count() for a, b in itertools.combinations(hashes, 2)]
    assert sum(bits <= 4 for bits in pairs) <= 1


def test_the_planted_faults_are_found(tmp_path):
    make_demo_data.make_demo_data(tmp_path, images=make_demo_data.MIN_IMAGES_TO_PLANT, seed=config.SEED)
    swapped, copy, cut_off, foreign = (
        [f"{make_demo_data.FOLDERS[0]}/{name}" for name in line.split(":")[0].split(", ")]
        for line in make_demo_data.plant_faults(tmp_path)
    )
    table, photos, report = read_dataset(tmp_path)
    assert report.skipped["unreadable"][0].startswith(cut_off[0])
    assert report.unknown_parts == {"motorhaube": 3}
    hashes = {path: photo.hash for path, photo in photos.items()}
    conflicts = find_conflicts(table, near_duplicates({path: hashes[path] for path in table["image_path"]}))
    assert [copy[0]] == [a for a, _ in conflicts]
    found = dict(zip(table["image_path"], find_suspicions(table, photos, {}, {}, conflicts), strict=True))
    assert report.skipped[MIRRORED] == swapped
    labelled = [path for path in foreign if path in found]
    assert labelled and all("unknown" in found[path][1] for path in labelled)
    left_out = [path for path in foreign if path not in found]
    assert all(path in report.skipped[UNKNOWN_PARTS] for path in left_out)


def test_a_walk_shows_one_car_from_all_sides_and_the_last_one_is_incomplete(tmp_path, call, monkeypatch):
    built, build_car = [], make_demo_data.build_car
    monkeypatch.setattr(make_demo_data, "build_car", lambda *values: built.append(build_car(*values)) or built[-1])
    code, printed, _ = call(make_demo_data, "--output", tmp_path, "--walks", 2)
    assert (code, "Drew walks around 2 cars" in printed) == (0, True)
    views = len(make_demo_data.views())
    whole, part = (sorted((tmp_path / f"car {car}").iterdir()) for car in (1, 2))
    assert (len(whole), len(part)) == (views, views - 1)
    shapes = [{panel.name: panel.corners.tolist() for panel in panels}["roof"] for panels in built]
    assert shapes == [shapes[0]] * views + [shapes[-1]] * (views - 1)
    assert shapes[0] != shapes[-1]


def test_the_same_seed_draws_the_same_photo():
    first, again = (draw_image("RearLeft", np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(np.asarray(first[0]), np.asarray(again[0]))
    assert first[1] == again[1]
    assert make_demo_data.polygon_area([(0, 0), (4, 0), (4, 3), (0, 3)]) == 12


# --- Serve demo --------------------------------------------------------------------


def test_a_missing_guide_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"model\.tflite not found; run convert_tflite\.py"):
        serve_demo.make_server(tmp_path, 0)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_phones_get_the_page_by_https_with_a_certificate_for_the_address(tmp_path, monkeypatch):
    guide = tmp_path / "handoff" / "web"
    (guide / "runtime").mkdir(parents=True)
    (guide / "model.tflite").write_bytes(b"a model")
    monkeypatch.setattr(serve_demo, "own_address", lambda: "127.0.0.1")
    with serve_demo.make_server(tmp_path, 0, phone=True) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        idle = socket.create_connection(("127.0.0.1", server.server_port))  # says nothing, and must block nobody
        certificate = ssl.get_server_certificate(("127.0.0.1", server.server_port), timeout=20)
        # Trusting just this certificate also checks that it is for this address.
        context = ssl.create_default_context(cadata=certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", server.server_port, context=context)
        connection.request("GET", "/model.tflite")
        assert connection.getresponse().read() == b"a model"
        connection.close()
        idle.close()
        server.shutdown()
