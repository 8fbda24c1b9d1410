"""From VIA annotations to labels: what is in the JSON files, and which way each photo looks.

Reads VIA 1, VIA 2 and VIA 2 projects. Every part votes by the lists in config.py; the
majority decides. Standard library only.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import config

VOTES = {
    "front": frozenset(config.FRONT_PARTS),
    "rear": frozenset(config.REAR_PARTS),
    "left": frozenset(config.LEFT_PARTS),
    "right": frozenset(config.RIGHT_PARTS),
}
DAMAGE = frozenset(config.DAMAGE_PARTS)
KNOWN = frozenset().union(*VOTES.values(), DAMAGE, config.NEUTRAL_PARTS)

# --- From regions to a label -------------------------------------------------------


def region_identity(region: object) -> str | None:
    """The part name of one VIA region: trimmed, lower case, no "partial_"; None if it has none."""
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    name = attributes.get(config.IDENTITY_KEY) if isinstance(attributes, dict) else None
    if not isinstance(name, str):
        return None
    return name.strip().lower().removeprefix(config.PARTIAL_PREFIX).strip() or None


def region_identities(regions: list | dict) -> set[str]:
    """The distinct part names of an image's regions.

    `regions` is VIA 2's list or VIA 1's dict of regions. Regions without a name, which
    hurried annotators leave behind, are passed over.
    """
    return {region_identity(region) for region in list_regions(regions)} - {None}


def list_regions(regions: list | dict | None) -> list:
    """VIA 2's list or VIA 1's dict of regions as a list."""
    return list(regions.values()) if isinstance(regions, dict) else regions or []


def count_votes(identities: Iterable[str]) -> dict[str, int]:
    """How many of the distinct part names vote front, rear, left and right."""
    return {name: len(parts.intersection(identities)) for name, parts in VOTES.items()}


def extract_viewpoint_label(regions: list | dict) -> str:
    """The class of an image, one of config.CLASSES, from its VIA regions (list or dict).

    Fewer than two distinct parts besides damage, or parts that say nothing, make a
    Background. Otherwise the majority of front and rear votes decides the end (a tie, or
    side votes alone, mean Front) and the majority of left and right votes the side.
    """
    identities = region_identities(regions)
    if len(identities - DAMAGE) < 2:
        return "Background"
    votes = count_votes(identities)
    if not any(votes.values()):
        return "Background"
    end = "Rear" if votes["rear"] > votes["front"] else "Front"
    if votes["left"] > votes["right"]:
        return end + "Left"
    if votes["right"] > votes["left"]:
        return end + "Right"
    return end


# --- From a folder to annotations --------------------------------------------------


@dataclass
class Report:
    """What reading a folder met: files read, things skipped by reason, unknown parts.

    `hashes` holds the perceptual hash of each labelled photo, a 64-bit number, `regions` its
    VIA regions, and `corrections` how many labels a person confirmed, changed and left out.
    """

    annotation_files: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    unknown_parts: Counter = field(default_factory=Counter)
    hashes: dict[str, int] = field(default_factory=dict)
    regions: dict[str, list | dict] = field(default_factory=dict)
    corrections: Counter = field(default_factory=Counter)

    def skip(self, reason: str, what: str) -> None:
        self.skipped.setdefault(reason, []).append(what)


def read_via_file(path: Path) -> dict[str, dict]:
    """Read one VIA file as {entry key: entry}; {} for VIA's attribute-only exports.

    Raises ValueError, with the reason, when the file is not JSON or not VIA 1 or 2.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not readable as JSON: {error}") from error
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    if not isinstance(content, dict):
        raise ValueError("not a VIA 1 or VIA 2 annotation file")
    if content and set(content) <= {"region", "file"}:
        return {}
    is_entry = [isinstance(entry, dict) and "filename" in entry for entry in content.values()]
    if content and not any(is_entry):
        raise ValueError("not a VIA 1 or VIA 2 annotation file")
    return content


def find_annotations(folder: Path, report: Report) -> Iterator[tuple[str, Path, list | dict]]:
    """Yield (JSON file, photo path, regions) for each well-formed entry below `folder`."""
    for json_path in sorted(folder.rglob("*.json")):
        json_name = json_path.relative_to(folder).as_posix()
        try:
            entries = read_via_file(json_path)
        except ValueError as error:
            report.skip("JSON file not used", f"{json_name} ({error})")
            continue
        report.annotation_files += 1
        for key, entry in entries.items():
            name = entry.get("filename") if isinstance(entry, dict) else None
            regions = entry.get("regions") if isinstance(entry, dict) else None
            if not isinstance(name, str) or not name or not isinstance(regions, (list, dict)):
                report.skip("malformed entry", f"{json_name}: {key}")
            # JSON can escape half a character, which no file can be written with.
            elif name.encode(errors="ignore").decode() != name:
                report.skip("malformed entry", f"{json_name}: {key!a}")
            elif not is_inside(json_path.parent / name, folder):
                report.skip("photo outside the data folder", f"{json_name}: {name}")
            else:
                yield json_name, json_path.parent / name, regions


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path`, links and ".." followed, lies below `folder` (already resolved)."""
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, ValueError):  # link loops; NUL characters
        return False


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False, too, for names that no file system can hold."""
    try:
        return path.is_file()
    except OSError:
        return False


def choose_annotations(folder: Path, report: Report) -> dict[str, list | dict]:
    """One annotation for each photo: {image_path relative to folder: regions}, sorted.

    A photo that several files annotate takes the entry with the most regions, for an
    earlier export is the poorer one; the first file wins a draw.
    """
    chosen = {}
    for json_name, photo, regions in find_annotations(folder, report):
        # normpath, so that "./a.jpg" and "a.jpg" are one photo.
        image_path = Path(os.path.normpath(photo)).relative_to(folder).as_posix()
        earlier = chosen.get(image_path)
        if earlier is not None:
            if extract_viewpoint_label(earlier) != extract_viewpoint_label(regions):
                report.skip(
                    "annotated twice with different labels, the fuller entry counts", f"{image_path} ({json_name})"
                )
            if len(regions) <= len(earlier):
                continue
        chosen[image_path] = regions
    return dict(sorted(chosen.items()))
