"""Changes to images: random ones for training, fixed ones for the robustness figures.

Validation and test images are never changed, except for the robustness figures.
Needs Pillow and NumPy only.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from viewpoint.common.images import resize

# --- Random changes for training ---------------------------------------------------


def augment(
    pixels: np.ndarray,
    size: int,
    strengths: Mapping[str, float],
    random: np.random.Generator,
) -> np.ndarray:
    """A random variant of a photo, as another camera or photographer might have taken it.

    Takes uint8 (height, width, 3) and gives uint8 (size, size, 3). It never mirrors, so the
    label stays. `strengths` has the names of config.TRAIN_OPTIONS["strengths of --augment"].
    """
    image = Image.fromarray(pixels)
    if random.random() < strengths["rotated_share"]:
        image = rotate(image, random.uniform(-strengths["max_rotation"], strengths["max_rotation"]))
    image = random_crop(image, size, strengths, random)
    for enhance, change in (
        (ImageEnhance.Brightness, strengths["brightness_change"]),
        (ImageEnhance.Contrast, strengths["contrast_change"]),
        (ImageEnhance.Color, strengths["saturation_change"]),
    ):
        image = enhance(image).enhance(random.uniform(1 - change, 1 + change))
    if random.random() < strengths["blurred_share"]:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0, strengths["max_blur_radius"])))
    if random.random() < strengths["compressed_share"]:
        image = recompress(image, round(random.uniform(strengths["min_jpeg_quality"], 90)))
    result = np.array(image)
    if random.random() < strengths["erased_share"]:
        erase(result, random.uniform(0, strengths["max_erased_area"]), random)
    return result


def random_crop(
    image: Image.Image, size: int, strengths: Mapping[str, float], random: np.random.Generator
) -> Image.Image:
    """Crop a random part of a photo and resize it to (size, size) by a random method.

    The random aspect ratio imitates tightly cropped cars, the random method imitates phones,
    which do not average when they shrink an image.
    """
    width, height = image.size
    area = random.uniform(strengths["min_crop_area"], 1)
    stretch = np.exp(random.uniform(-1, 1) * np.log(strengths["max_crop_stretch"]) / 2)
    crop_width = min(1.0, np.sqrt(area) * stretch) * width
    crop_height = min(1.0, np.sqrt(area) / stretch) * height
    left, top = random.uniform(0, width - crop_width), random.uniform(0, height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    return random_resize(image, (size, size), box, strengths, random)


def random_resize(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    strengths: Mapping[str, float],
    random: np.random.Generator,
) -> Image.Image:
    """Resize the part `box` of an image to `size` = (width, height) by a random method."""
    if random.random() < strengths["aliased_share"]:
        return resize_aliased(image, size, box)
    methods = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX]
    return image.resize(size, methods[random.integers(len(methods))], box=box)


def erase(pixels: np.ndarray, area: float, random: np.random.Generator) -> None:
    """Cover a random rectangle of `area` (fraction of the image, 0 to 1) with noise, in place.

    Source: Zhong et al., Random Erasing (2017), https://arxiv.org/abs/1708.04896.
    """
    height, width = pixels.shape[:2]
    stretch = np.exp(random.uniform(-0.7, 0.7))
    box_height = min(height, round(height * np.sqrt(area) * stretch))
    box_width = min(width, round(width * np.sqrt(area) / stretch))
    top, left = random.integers(0, height - box_height + 1), random.integers(0, width - box_width + 1)
    pixels[top : top + box_height, left : left + box_width] = random.integers(
        0, 256, (box_height, box_width, 3), dtype=np.uint8
    )


def mix(
    images: np.ndarray, targets: np.ndarray, alpha: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mixup: blend each image and its target row with another of the batch.

    Images are float32 (n, size, size, 3), targets float32 (n, classes).
    Source: Zhang et al., mixup (2017), https://arxiv.org/abs/1710.09412.
    """
    weight = np.float32(random.beta(alpha, alpha))
    partner = random.permutation(len(images))
    blend = [weight * array + (1 - weight) * array[partner] for array in (images, targets)]
    return blend[0], blend[1]


# --- Changes used by both ---------------------------------------------------------


def rotate(image: Image.Image, degrees: float) -> Image.Image:
    """Rotate an image about its center; the corners that come into view repeat its edge pixels."""
    width, height = image.size
    margin = int(np.ceil(max(width, height) * abs(np.sin(np.radians(degrees))) / 2)) + 1
    padded = Image.fromarray(np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
    turned = padded.rotate(degrees, Image.Resampling.BILINEAR)
    return turned.crop((margin, margin, margin + width, margin + height))


def resize_aliased(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """Resize the part `box` of an image to `size` = (width, height) bilinearly without averaging.

    Phones and tf.image.resize do the same.
    """
    return image.transform(size, Image.Transform.EXTENT, box or (0, 0, *image.size), Image.Resampling.BILINEAR)


def recompress(image: Image.Image, quality: int) -> Image.Image:
    """Save an image as JPEG of `quality` (1 to 95) and read it back."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


# --- Fixed changes for the robustness figures --------------------------------------


def occlude(image: Image.Image) -> Image.Image:
    """Cover the middle quarter of an image with grey."""
    covered = image.copy()
    width, height = image.size
    covered.paste((128, 128, 128), (width // 4, height // 4, width // 4 + width // 2, height // 4 + height // 2))
    return covered


# Each takes an upright photo and the model's image size, and returns an image of that size.
CORRUPTIONS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "low light": lambda image, size: ImageEnhance.Brightness(resize(image, size)).enhance(0.3),
    "blur": lambda image, size: resize(image, size).filter(ImageFilter.GaussianBlur(size / 112)),
    "heavy JPEG": lambda image, size: recompress(resize(image, size), 10),
    "rotation by 10 degrees": lambda image, size: resize(rotate(image, 10), size),
    "25 % occluded": lambda image, size: occlude(resize(image, size)),
    "aliased resize": lambda image, size: resize_aliased(image, (size, size)),
}
