"""Draw a small annotated data set of simple cars, to try the project without photos.

    python tools/make_demo_data.py --output demo/photos --images 1000
    python tools/make_demo_data.py --output demo/vans --images 200 --style vans   # other photos than a model knows
    python tools/make_demo_data.py --output demo/vehicles --walks 3               # walks around three cars

Each car is a 3-D model of flat panels with random colour, proportions, light and backdrop, seen
in perspective from a random azimuth. The panels that can be seen become VIA polygons with the
usual part names; left and right are the car's own. Some images are empty scenes or close-ups of
one part. Writes one folder for each kind of VIA file, with the images and via_region_data.json.
Then plants the faults that real data has, for the project to find, and lists them in planted.txt.

Axes in metres: x to the car's front, y to its left, z up; the ground is z = 0. An azimuth
of 0 degrees looks at the front, 90 at the car's left side, 180 at the rear.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

import config
from viewpoint.annotations.via import read_regions
from viewpoint.common.cli import COUNT, SEED, command, counted, make_parser, print_next, run
from viewpoint.common.progress import progress
from viewpoint.common.writing import write_atomically
from viewpoint.data.labeling import label_parts, part_names

WIDTH, HEIGHT = 480, 360
CENTRE = np.array([WIDTH / 2, HEIGHT / 2])
FOLDERS = ["export VIA 2", "export VIA 1 (été)", "project VIA 2"]

# How many times a close-up magnifies the image of the whole car: at least, and at most.
CLOSE_UP_ZOOM = (3.0, 5.0)

# Cars by day, as a model would be trained on, or vans at dusk, as photos may be that come in later.
STYLES = ("cars", "vans")
DAYLIGHT, DUSK = (0.7, 1.1), (0.3, 0.5)  # the lowest and the highest brightness of an image

PLANTED_NAME = "planted.txt"
MIN_IMAGES_TO_PLANT = 168  # so that the first folder has six photos from the front left, enough for all faults

# A name for a bonnet that no list knows, as an annotator of another language writes it.
UNKNOWN_NAME = "Motorhaube"

# A part is annotated when this fraction of its outline, and this many pixels, can be seen.
MIN_VISIBLE_SHARE = 0.4
MIN_VISIBLE_PIXELS = 80

# The lowest and the highest camera, in metres. The low ones are below the bonnet.
HEIGHTS = (1.2, 2.0)
LOW_HEIGHTS = (0.5, 0.8)

Region = dict[str, dict[str, Any]]  # a region of VIA 2
Outline = Sequence[tuple[float, float]]  # the corners of a polygon, in pixels


class View(NamedTuple):
    """Where the camera may be: the lowest and the highest azimuth in degrees, and height in metres."""

    azimuths: tuple[float, float]
    heights: tuple[float, float] = HEIGHTS


def views() -> dict[str, View]:
    """The view that shows each viewpoint of config.CLASSES, so that the demo is balanced.

    Between them are views that people could name either way; the label always comes from the
    parts. When "Left" and "Right" are classes, they are seen from a low camera, because a bonnet
    that can be seen votes front.
    """
    side = 75 if "Left" in config.CLASSES else 100
    spans = {
        "Front": View((-5, 5)),
        "FrontLeft": View((12, side)),
        "FrontRight": View((-side, -12)),
        "Rear": View((175, 185)),
        "RearLeft": View((120, 168)),
        "RearRight": View((192, 240)),
        "Left": View((80, 100), LOW_HEIGHTS),
        "Right": View((-100, -80), LOW_HEIGHTS),
    }
    return {name: spans[name] for name in config.CLASSES if name in spans}


@dataclass
class Panel:
    """A flat polygon of the car: its corners (n, 3) in metres and how to draw it."""

    name: str | None  # part name, None for bodywork without one
    corners: np.ndarray
    colour: str  # "body", or a Pillow colour
    bias: float = 0.0  # metres to draw it nearer than it is, for parts on top of a panel


def build_car(random: np.random.Generator, style: str = "cars") -> list[Panel]:
    """A sedan, an SUV or with the style "vans" a van, of random proportions: its panels, both sides."""
    suv = random.random() < 0.5 or style == "vans"
    front, w = random.uniform(2.0, 2.4), random.uniform(0.82, 0.95)  # w is half the width
    rear, r = -front, 0.8 * w  # r is half the width of the roof
    sill, waist = random.uniform(0.25, 0.4), random.uniform(0.9, 1.05)
    roof = waist + random.uniform(0.5, 0.7)
    screen_base, screen_top = random.uniform(0.8, 1.1), random.uniform(0.2, 0.5)
    back_top = rear + (0.35 if suv else 1.3)
    back_base = rear + (0.02 if suv else 0.7)
    if style == "vans":
        screen_base, screen_top, back_top, roof = front - 0.5, front - 0.9, rear + 0.1, roof + 0.5
    bumper, lamp = sill + 0.42 * (waist - sill), 0.55 * w
    plate_z = sill + 0.15
    panels = [
        Panel("frontbumper", across(front, front, -w, w, sill, bumper), "body"),
        Panel("grille", across(front, front, -lamp, lamp, bumper, waist), "#202020"),
        Panel("numberplate", across(front, front, -0.25, 0.25, plate_z, plate_z + 0.12), "#f0f0f0", bias=0.2),
        Panel("bonnet", across(front, screen_base, -w, w, waist, waist), "body"),
        Panel("roof", across(screen_top, back_top, -r, r, roof, roof), "body"),
        Panel("rearbumper", across(rear, rear, -w, w, sill, bumper), "body"),
        Panel("tailgate" if suv else "trunk", across(rear, rear, -lamp, lamp, bumper, waist), "body"),
        Panel("numberplate", across(rear, rear, -0.25, 0.25, bumper + 0.1, bumper + 0.22), "#f0f0f0", bias=0.2),
        Panel(None, across(rear, back_base, -w, w, waist, waist), "body"),
    ]
    for name, x0, x1 in (("frontws", screen_base, screen_top), ("rearws", back_base, back_top)):
        corners = np.array([(x0, -w, waist), (x0, w, waist), (x1, r, roof), (x1, -r, roof)])
        panels.append(Panel(name, corners, "#31424f"))

    middle, rear_door = random.uniform(-0.3, 0.0), rear + random.uniform(1.0, 1.2)
    board = sill + 0.1
    left = [
        Panel("leftheadlamp", across(front, front, lamp, w, bumper, waist), "#fff6c8"),
        Panel("lefttaillamp", across(rear, rear, lamp, w, bumper, waist), "#c01818"),
        Panel("leftfender", along(screen_base, front, sill, waist, w), "body"),
        Panel("leftfrontdoor", along(middle, screen_base, board, waist, w), "body"),
        Panel("leftreardoor", along(rear_door, middle, board, waist, w), "body"),
        Panel("leftqpanel", along(rear, rear_door, sill, waist, w), "body"),
        Panel("leftrunningboard", along(rear_door, screen_base, sill, board, w), "#303030"),
        Panel("leftorvm", across(0.75, 0.75, w, w + 0.24, waist, waist + 0.17), "body", bias=0.3),
        Panel("doorhandle", along(middle + 0.05, middle + 0.25, waist - 0.15, waist - 0.1, w), "#202020", bias=0.2),
    ]
    window = np.array([(screen_base, w, waist), (back_base, w, waist), (back_top, r, roof), (screen_top, r, roof)])
    left.append(Panel(None, window, "#31424f"))
    left += build_wheel(front - 0.75, w) + build_wheel(rear + 0.75, w)
    right = [
        Panel(part.name and part.name.replace("left", "right"), part.corners * (1, -1, 1), part.colour, part.bias)
        for part in left
    ]
    return panels + left + right


def across(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> np.ndarray:
    """A panel that spans the width from y0 to y1, leaning from (x0, z0) to (x1, z1)."""
    return np.array([(x0, y0, z0), (x0, y1, z0), (x1, y1, z1), (x1, y0, z1)])


def along(x0: float, x1: float, z0: float, z1: float, y: float) -> np.ndarray:
    """An upright panel of the left side, `y` metres from the middle, from x0 to x1 and z0 to z1."""
    return np.array([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)])


def build_wheel(x: float, y: float) -> list[Panel]:
    """A wheel on the left side of a car, whose middle is x metres before that of the car: tyre, rim and spokes."""
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    tyre = np.stack([x + 0.33 * np.cos(angles), np.full(20, y + 0.01), 0.33 + 0.33 * np.sin(angles)], axis=1)
    hub = np.array((x, y + 0.02, 0.33))
    wheel = [Panel("tyre", tyre, "#181818", bias=0.6), Panel(None, hub + 0.6 * (tyre - hub), "#a8a8a8", bias=0.7)]
    for angle in angles[::4]:
        outward = 0.2 * np.array([np.cos(angle), 0, np.sin(angle)])
        across = 0.025 * np.array([-np.sin(angle), 0, np.cos(angle)])
        spoke = np.array([hub, hub + outward - across, hub + outward + across])
        wheel.append(Panel(None, spoke, "#585858", bias=0.8))
    return wheel


def outward_normal(corners: np.ndarray) -> np.ndarray:
    """The unit normal of a panel that points away from the middle of the car."""
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    normal /= np.linalg.norm(normal)
    return normal if normal @ (corners.mean(axis=0) - (0, 0, 0.7)) > 0 else -normal


def draw_backdrop(random: np.random.Generator) -> Image.Image:
    """Draw a street: sky, ground, some houses and trees, no vehicle."""
    image = Image.new("RGB", (WIDTH, HEIGHT), tuple(random.integers(140, 240, 3)))
    draw = ImageDraw.Draw(image)
    horizon = int(HEIGHT * random.uniform(0.35, 0.6))
    for _ in range(random.integers(2, 8)):
        x, w, h = (int(random.integers(low, high)) for low, high in ((-40, WIDTH), (30, 160), (20, 160)))
        colour = tuple(int(c) for c in random.integers(60, 220, 3))
        if random.random() < 0.5:
            draw.rectangle((x, horizon - h, x + w, horizon), fill=colour)
        else:
            draw.ellipse((x, horizon - h, x + 0.7 * h, horizon + 10), fill=colour)
    draw.rectangle((0, horizon, WIDTH, HEIGHT), fill=tuple(int(c) for c in random.integers(70, 170, 3)))
    for _ in range(random.integers(0, 4)):
        y = int(random.integers(horizon, HEIGHT))
        draw.line((0, y, WIDTH, y + int(random.integers(-30, 30))), fill="#d8d8d8", width=3)
    return image


def project(points: np.ndarray, camera: np.ndarray, target: np.ndarray, focal: float) -> np.ndarray:
    """Pinhole projection of points (n, 3) in metres to pixels (n, 2), x right and y down."""
    forward = (target - camera) / np.linalg.norm(target - camera)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    relative = points - camera
    depth = relative @ forward
    pixels = np.stack([relative @ right, relative @ down], axis=1) / depth[:, np.newaxis] * focal
    return pixels + CENTRE


def draw_car(
    azimuth: float,
    random: np.random.Generator,
    heights: tuple[float, float] = HEIGHTS,
    zoom: float = 1,
    style: str = "cars",
    scene: np.random.Generator | None = None,
) -> tuple[Image.Image, list[Region], np.ndarray]:
    """Draw a random car seen from `azimuth` degrees: (image, VIA 2 regions, part map).

    A `zoom` above 1 magnifies, and aims at a random part. `scene` draws the backdrop, or else
    `random`. The part map (HEIGHT, WIDTH) holds 1 + the index of the region seen at each pixel, or 0.
    """
    panels = build_car(random, style)
    angle, distance = np.radians(azimuth), random.uniform(5.5, 9)
    camera = np.array([distance * np.cos(angle), distance * np.sin(angle), random.uniform(*heights)])
    target = np.array([0, 0, 0.75]) + random.normal(0, 0.12, 3)
    if zoom > 1:
        seen = [panel for panel in panels if panel.name and faces(panel, camera)]
        target = seen[random.integers(len(seen))].corners.mean(axis=0) + random.normal(0, 0.1, 3)
    apparent_width = 4.4 * abs(np.sin(angle)) + 1.9 * abs(np.cos(angle)) + 0.6
    focal = zoom * WIDTH * random.uniform(0.6, 0.9) * distance / apparent_width
    light = np.array([random.normal(), random.normal(), 1.5])
    light /= np.linalg.norm(light)
    paint = random.integers(20, 245, 3)

    image, ids = draw_backdrop(scene or random), Image.new("I", (WIDTH, HEIGHT), 0)
    canvas, id_canvas = ImageDraw.Draw(image), ImageDraw.Draw(ids)
    shadow = np.array([(x, y, 0) for x, y in ((2.3, 1), (-2.3, 1), (-2.3, -1), (2.3, -1))])
    canvas.polygon([tuple(p) for p in project(shadow, camera, target, focal)], fill="#303030")

    # Painter's algorithm: draw far panels first, and those that face away not at all.
    panels.sort(key=lambda panel: panel.bias - np.linalg.norm(panel.corners.mean(axis=0) - camera))
    outlines: list[Outline] = []
    for index, panel in enumerate(panels, start=1):
        normal = outward_normal(panel.corners)
        outline: Outline = [(x, y) for x, y in project(panel.corners, camera, target, focal).round(1).tolist()]
        outlines.append(outline)
        if not faces(panel, camera):
            continue
        brightness = 0.65 + 0.35 * abs(normal @ light)
        base = paint if panel.colour == "body" else ImageColor.getrgb(panel.colour)
        canvas.polygon(outline, fill=tuple(int(c * brightness) for c in base), outline="#101010")
        id_canvas.polygon(outline, fill=index)

    return image, *find_visible(panels, outlines, np.asarray(ids))


def find_visible(panels: list[Panel], outlines: list[Outline], id_map: np.ndarray) -> tuple[list[Region], np.ndarray]:
    """The regions of the parts that can be seen, and draw_car's part map.

    `id_map` (HEIGHT, WIDTH) holds 1 + the index of the panel drawn at each pixel, or 0.
    """
    regions: list[Region] = []
    part_map = np.zeros_like(id_map)
    for index, (panel, outline) in enumerate(zip(panels, outlines, strict=True), start=1):
        pixels = int((id_map == index).sum())
        inside = np.clip(outline, 0, (WIDTH, HEIGHT)).tolist()
        if panel.name and pixels >= MIN_VISIBLE_PIXELS and pixels >= MIN_VISIBLE_SHARE * polygon_area(inside):
            regions.append(make_region(panel.name, outline, (0, 0, WIDTH, HEIGHT)))
            part_map[id_map == index] = len(regions)
    return regions, part_map


def faces(panel: Panel, camera: np.ndarray) -> bool:
    """Whether the outer side of a panel can be seen from the camera, if nothing is in front of it."""
    return outward_normal(panel.corners) @ (camera - panel.corners.mean(axis=0)) > 0


def polygon_area(outline: Outline) -> float:
    """The area of a polygon in pixels (the shoelace formula)."""
    x, y = np.array(outline).T
    return abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2


def make_region(name: str, outline: Outline, box: tuple[int, int, int, int]) -> Region:
    """The VIA 2 region of `outline` in an image cropped to `box` (left, top, right, bottom).

    The outline of a part that is partly outside is clipped to the box, and its name gets config.PARTIAL_PREFIX.
    """
    left, top, right, bottom = box
    x, y = np.array(outline).T
    inside_x, inside_y = np.clip(x, left, right), np.clip(y, top, bottom)
    whole = np.array_equal(x, inside_x) and np.array_equal(y, inside_y)
    shape = {
        "name": "polygon",
        "all_points_x": (inside_x - left).round().astype(int).tolist(),
        "all_points_y": (inside_y - top).round().astype(int).tolist(),
    }
    identity = name if whole else config.PARTIAL_PREFIX + name
    return {"shape_attributes": shape, "region_attributes": {config.IDENTITY_KEY: identity}}


def draw_close_up(random: np.random.Generator, style: str = "cars") -> tuple[Image.Image, list[Region]]:
    """Draw a close-up of a part, in half of the cases with a scratch: (image, VIA 2 regions).

    Its neighbours can be seen as well, but as in real close-ups only the part in the middle is annotated.
    """
    index = 0
    while not index:
        zoom = random.uniform(*CLOSE_UP_ZOOM)
        image, regions, part_map = draw_car(random.uniform(0, 360), random, zoom=zoom, style=style)
        index = part_map[HEIGHT // 2, WIDTH // 2]
    close_up_regions = [regions[index - 1]]
    if random.random() < 0.5:
        points = np.cumsum(random.normal(0, 25, (6, 2)), axis=0) + CENTRE
        ImageDraw.Draw(image).line([tuple(p) for p in points], fill="#d0d0d0", width=3)
        scratch = [(x, y) for x, y in points.clip(1, (WIDTH - 1, HEIGHT - 1))]
        close_up_regions.append(make_region("scratch", scratch, (0, 0, WIDTH, HEIGHT)))
    return image, close_up_regions


def draw_image(kind: str, random: np.random.Generator, style: str = "cars") -> tuple[Image.Image, list[Region]]:
    """Draw an image of `kind`, a key of views(), "scene" or "close-up": (image, VIA 2 regions)."""
    regions: list[Region] = []
    if kind == "scene":
        image = draw_backdrop(random)
    elif kind == "close-up":
        image, regions = draw_close_up(random, style)
    else:
        view = views()[kind]
        image, regions, _ = draw_car(random.uniform(*view.azimuths), random, view.heights, style=style)
    return expose(image, random, DUSK if style == "vans" else DAYLIGHT), regions


def expose(image: Image.Image, random: np.random.Generator, brightness: tuple[float, float]) -> Image.Image:
    """The image as a camera sees it: with noise, and of a random brightness within these limits."""
    noise = random.normal(0, 6, (HEIGHT, WIDTH, 3))
    pixels = np.asarray(image) * random.uniform(*brightness) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_annotations(folder: Path, entries: list[dict], flavour: int) -> None:
    """Write VIA entries as a VIA 2 export (0), a VIA 1 export (1) or a VIA 2 project (2)."""
    if flavour == 1:
        entries = [
            entry
            | {"fileref": "", "base64_img_data": ""}
            | {"regions": {str(i): region for i, region in enumerate(entry["regions"])}}
            for entry in entries
        ]
    content = {f"{entry['filename']}{entry['size']}": entry for entry in entries}
    if flavour == 2:
        content = {"_via_settings": {}, "_via_img_metadata": content, "_via_attributes": {}}
    with write_atomically(folder / "via_region_data.json") as path:
        path.write_text(json.dumps(content), encoding="utf-8")


def make_demo_data(output: Path, images: int, seed: int, style: str = "cars") -> None:
    """Write `images` drawn images with their annotations below `output`, the kinds in turn."""
    kinds = [*views(), "scene", *views(), "close-up"]
    entries: list[list[dict]] = [[] for _ in FOLDERS]
    for index in progress(range(images), "Drawing", unit="image"):
        # Each image has a random generator of its own, so the first 10 of 1,000 are the same as the 10 of 10.
        image, regions = draw_image(kinds[index % len(kinds)], np.random.default_rng([seed, index]), style)
        flavour = index % len(FOLDERS)
        path = output / FOLDERS[flavour] / f"photo_{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=88)
        entries[flavour].append(
            {"filename": path.name, "size": path.stat().st_size, "regions": regions, "file_attributes": {}}
        )
    for flavour, folder_entries in enumerate(entries):
        if folder_entries:
            write_annotations(output / FOLDERS[flavour], folder_entries, flavour)


def make_walks(output: Path, cars: int, seed: int) -> None:
    """Write a walk around each of so many drawn cars below `output`: a folder with a photo of each viewpoint.

    The last car lacks the last one.
    """
    for car in range(1, cars + 1):
        for number, view in enumerate(list(views().values())[: -1 if car == cars else None], start=1):
            random = np.random.default_rng([seed, car, number])
            middle, spread = np.mean(view.azimuths), np.ptp(view.azimuths) / 4
            azimuth = random.uniform(middle - spread, middle + spread)
            image, _, _ = draw_car(azimuth, np.random.default_rng([seed, car]), view.heights, scene=random)
            path = output / f"car {car}" / f"photo_{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            expose(image, random, DAYLIGHT).save(path, quality=88)


# --- Planted faults ----------------------------------------------------------------


def plant_faults(output: Path) -> list[str]:
    """Plant faults as real data has them into the photos of make_demo_data(): what was done, and where it is found.

    Needs at least MIN_IMAGES_TO_PLANT images.
    """
    folder = output / FOLDERS[0]
    path = folder / "via_region_data.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    by_name = {entry["filename"]: entry for entry in entries.values()}
    labels = {name: label_parts(part_names(read_regions(entry["regions"]))) for name, entry in by_name.items()}
    corners = sorted(name for name, label in labels.items() if label == "FrontLeft")
    swapped, copied, cut_off, *foreign = corners[:6]

    by_name[swapped]["regions"] = renamed(by_name[swapped]["regions"], swap_sides)
    copy = f"copy of {copied}"
    shutil.copyfile(folder / copied, folder / copy)
    ends = [region for region in by_name[copied]["regions"] if "left" not in name_of(region)]
    by_name[copy] = by_name[copied] | {"filename": copy, "regions": ends}
    entries[copy] = by_name[copy]
    content = (folder / cut_off).read_bytes()
    (folder / cut_off).write_bytes(content[: len(content) // 3])
    for name in foreign:
        by_name[name]["regions"] = renamed(
            by_name[name]["regions"], lambda part: UNKNOWN_NAME if part.endswith("bonnet") else part
        )
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(entries), encoding="utf-8")
    return [
        f"{swapped}: left and right were swapped. data_preparation.py leaves it out, as it does flipped copies.",
        f"{copy}: a copy of {copied} whose left parts are missing. Both come first on the review page, side by side.",
        f"{cut_off}: the file is cut off. data_preparation.py skips it as unreadable.",
        f"{', '.join(foreign)}: the bonnet is called {UNKNOWN_NAME}. It is in part_names.csv, to fill in.",
    ]


def name_of(region: Region) -> str:
    """The part name of a VIA 2 region."""
    return region["region_attributes"][config.IDENTITY_KEY]


def renamed(regions: list[Region], new_name: Callable[[str], str]) -> list[Region]:
    """The regions under other names."""
    return [region | {"region_attributes": {config.IDENTITY_KEY: new_name(name_of(region))}} for region in regions]


def swap_sides(name: str) -> str:
    """The name of the same part on the other side."""
    return name.replace("left", "*").replace("right", "left").replace("*", "right")


def main() -> None:
    parser = make_parser("Draw a small annotated data set.")
    add = parser.add_argument
    add("--output", type=Path, default="demo/photos", help="folder to write to")
    add("--images", type=COUNT, default=1000, help="how many images to draw")
    add("--seed", type=SEED, default=config.SEED, help="seed of everything that is drawn")
    add("--style", choices=STYLES, default="cars", help="cars by day, or vans at dusk")
    add(
        "--walks",
        type=COUNT,
        metavar="CARS",
        help="only walk around CARS cars, a folder each; the last lacks a view",
    )
    args = parser.parse_args()
    if args.walks:
        make_walks(args.output, args.walks, args.seed)
        print(f"Drew walks around {counted(args.walks, 'car')} in {args.output}.")
        return
    make_demo_data(args.output, args.images, args.seed, args.style)
    print(f"\nDrew {counted(args.images, 'annotated image')}.")
    if args.images >= MIN_IMAGES_TO_PLANT:
        planted = plant_faults(args.output)
        with write_atomically(args.output / PLANTED_NAME) as path:
            path.write_text("\n".join(planted) + "\n", encoding="utf-8")
        print(f"Planted {counted(len(planted), 'fault')} to find in {args.output / FOLDERS[0]}; see {PLANTED_NAME}.")
    print_next(command("data_preparation.py", [("--data", args.output, config.DATA_DIR)]))


if __name__ == "__main__":
    run(main)
