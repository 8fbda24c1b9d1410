"""Every setting that you may want to change: first the ones that people change, part lists last. No logic.

Change a value here for good, or override it for one run on a script's command line
(`python train.py --help-all` lists its options).
"""

from pathlib import Path
from typing import Any

# The version of this project, which --version prints; also that of the models it makes, in their metadata and card.
VERSION = "1.0.0"

# --- Classes -----------------------------------------------------------------------

# The order of the model's outputs, of labels.txt and of every report. Never sort it.
# To get pure side views as classes of their own, insert "Left" and "Right" here and in
# MIRRORED_CLASS; without them a side view counts as Front.
CLASSES = ["Front", "FrontLeft", "FrontRight", "Rear", "RearLeft", "RearRight", "Background"]

# The class of photos without a vehicle, and of close-ups. Every other class is a viewpoint.
BACKGROUND = "Background"

# The class of a photo after a horizontal flip.
MIRRORED_CLASS = {
    "Front": "Front",
    "FrontLeft": "FrontRight",
    "FrontRight": "FrontLeft",
    "Rear": "Rear",
    "RearLeft": "RearRight",
    "RearRight": "RearLeft",
    "Background": "Background",
}

# The views in the order in which a walk around the car shows them; with "Left" and "Right" in
# CLASSES, insert them here as well.
VIEW_CIRCLE = ["Front", "FrontRight", "RearRight", "Rear", "RearLeft", "FrontLeft"]

# --- Every script ------------------------------------------------------------------

# Default paths.
DATA_DIR = "dataset"  # the annotated photos, read only
DATASET_DIR = "dataset"  # train.csv, val.csv, test.csv and a summary
MODELS_DIR = "models"  # model.keras, saved_model/, report/ and model.tflite
PREDICTIONS_PATH = "predictions.csv"

IMAGE_SIZE = 224  # width and height of the model's input, in pixels
SEED = 42

# Files that count as photos, and as videos; compared in lower case.
IMAGE_EXTENSIONS = ".jpg .jpeg .jpe .jfif .png .bmp .webp .gif .tif .tiff .heic .heif .avif .mpo".split()
VIDEO_EXTENSIONS = ".mp4 .m4v .mov .3gp .avi .mkv .webm .ts .mts .mpg .wmv .flv".split()

# Photos and videos in formats that are not read: they are reported, so that nobody misses them in silence.
UNREAD_EXTENSIONS = ".arw .cr2 .cr3 .dng .nef .orf .raf .rw2 .jp2 .jxl .psd".split()
UNREAD_EXTENSIONS += ".3g2 .m2ts .mpeg .vob .ogv .rm .mxf .asf .divx".split()

# Larger images are refused before they are decoded, because a file of a few bytes can claim any size.
# All threads together do not decode more at the same time either.
MAX_MEGAPIXELS = 200

# --- data_preparation.py -----------------------------------------------------------

IDENTITY_KEY = "identity"  # the key of region_attributes that names the part
VAL_SHARE = 0.1  # fraction of the photos for validation
TEST_SHARE = 0.1  # fraction of the photos for the test

# Photos whose 128-bit perceptual hashes differ in at most this many bits are near-duplicates.
DUPLICATE_BITS = 14

MAX_JSON_MEGABYTES = 100  # larger files are refused: read into memory, they take ten times their size
REVIEW_IMAGES = 4000  # photos on the review page, unless --review gives another number

# --- convert_tflite.py -------------------------------------------------------------

# Written into the model's metadata and its model card, where "" is "not stated"; or give --author and --license.
MODEL_NAME = "Vehicle viewpoint classifier"
MODEL_DESCRIPTION = "From where a car was photographed. Left and right are the car's own."
MODEL_AUTHOR = ""
MODEL_LICENSE = ""

# How weights and activations can be stored; the first is the default.
PRECISIONS = ["float16", "float32", "dynamic", "int8"]

MIN_AGREEMENT = 0.99  # fraction of images, near ties left out, that must keep the Keras model's class
AGREEMENT_IMAGES = 300  # validation photos, filled up with test and training photos and mirror images
CALIBRATION_IMAGES = 300  # drawn from the training split, for the value ranges of int8

# The golden set of the hand-off folder: photos with their exact input and expected output.
GOLDEN_IMAGES = 12

# The capture guide of the hand-off folder takes a frame of the camera as the photo of a view when
# this many frames in a row, over at least this time, show that view with at least this score, and the
# picture moves no more than this. A score that train.py suggests comes before GUIDE_MIN_SCORE.
GUIDE_MIN_SCORE = 0.8
GUIDE_STEADY_FRAMES = 5
GUIDE_STEADY_SECONDS = 0.5
# The mean difference of grey levels, 0 to 255, between two frames. At 10 frames a second, on photos of
# cars, this is reached when the picture moves by 0.8 % of its width from frame to frame.
GUIDE_MOTION_ABOVE = 10
GUIDE_FRAMES_PER_SECOND = 10  # at most; a phone that is kept busy becomes hot

# --- test_predict.py ---------------------------------------------------------------

UNKNOWN = "Unknown"  # the prediction when the best score is lower than --unknown-below
FRAMES_A_SECOND = 5  # frames of a video that are looked at

# Which photos are hardly usable; docs/predicting.md says on which photos these numbers were chosen.
QUALITY_SIZE = 192  # width and height of the grey copy that is measured, in pixels
TOO_DARK_BELOW = 65  # grey level, 0 to 255
BRIGHT_SHARE = 0.02  # fraction of the pixels that must reach it
CLIPPED_LEVEL = 250  # grey level from which a pixel counts as white
TOO_BRIGHT_ABOVE = 0.25  # fraction of white pixels in the middle of the photo
BLURRED_ABOVE = 0.48  # blur, 0 to 1, as in quality.py

# --- Pages, pictures and tools -----------------------------------------------------

THUMBNAIL_SIZE = 200  # largest width and height of a photo on pages and contact sheets, in pixels
CONTACT_SHEET_IMAGES = 120  # a contact sheet shows at most this many photos, the least certain ones
VEHICLES_SHOWN = 500  # the page of --per-folder shows at most this many, the incomplete ones first
MISTAKES_SHOWN = 24  # the report of train.py shows this many of the most confident mistakes
FOLDERS_SHOWN = 10  # and this many of the folders with the lowest accuracy
DRIFT_PHOTOS = 1000  # train.py records at most this many photos, and tools/drift.py opens at most this many
DRIFT_FALSE_ALARMS = 0.05  # how often photos of the same kind may be called different, all tests together
# A change counts only from this size on, however certain it is. Of classes, quality reasons, sizes,
# shapes and formats: the fraction of the photos that would have to change. Of scores: the largest
# difference between the fractions of photos below any score. Of features: how often a classifier
# tells a new photo from an old one (0.5 is guessing).
DRIFT_LIMITS = {"classes": 0.1, "scores": 0.15, "quality": 0.03, "sizes": 0.1, "features": 0.65}

# --- tools/predict_many.py ---------------------------------------------------------

PHOTOS_PER_BLOCK = 100  # photos in one Parquet part
STORAGE_THREADS = 16  # photos that are read at the same time
STORAGE_ATTEMPTS = 6  # how often storage is asked before a photo counts as unreadable
STORAGE_PAUSE = 0.2  # seconds before the second attempt; twice as long before each further one

# --- train.py ----------------------------------------------------------------------

# train.py suggests the lowest --unknown-below at which the answers on validation show at least this
# accuracy with this confidence.
SUGGESTED_ACCURACY = 0.98
SUGGESTED_CONFIDENCE = 0.9

# train.py --unlabelled learns from a photo when the mean score of the photo and its mirror image is at least this.
PSEUDO_LABEL_SCORE = 0.8

# Epochs of fine-tuning for 1,000 photos; twice as many for an eighth of them, half as many for eight times.
PHASE2_EPOCHS = 11

# Backbones that train.py knows, by their names in keras.applications.
BACKBONES = ["MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0"]

# Every option of train.py by group: its value, what it accepts, its help. What it accepts is
# (lowest, highest) for a number, where None means no limit, a list of choices, or a type.
TRAIN_OPTIONS: dict[str, dict[str, tuple[Any, Any, str]]] = {
    "common options": {
        "dataset": (Path(DATASET_DIR), Path, "folder of train.csv, val.csv and test.csv"),
        "data": (None, Path, "folder that the CSVs' paths start from; without it, the one recorded beside them"),
        "models": (Path(MODELS_DIR), Path, "folder to write the model and its report to"),
        "weights": ("imagenet", str, "imagenet (a download), none (random weights), or a weights file of the backbone"),
        "start_from": (None, Path, "model.keras of an earlier training to continue from, instead of --weights"),
        "unlabelled": (None, Path, "folder of photos without labels to learn from as well; needs --start-from"),
        "backbone": (BACKBONES[0], BACKBONES, "network below the head"),
        "image_size": (IMAGE_SIZE, (32, None), "width and height of the model's input, in pixels"),
        "batch_size": (16, (1, None), "images in a training step"),
        "phase1_epochs": (20, (0, None), "epochs of the head on the frozen backbone"),
        "phase2_epochs": (None, (0, None), "epochs of fine-tuning; without it, fewer the more photos there are"),
        "seed": (SEED, (0, 2**32 - 1), "seed of weights, dropout, batch order and random changes"),
        "devices": ("one", ["one", "all"], "compute on one GPU or the CPU, or share each batch among all GPUs"),
        "mixed_precision": (False, bool, "compute in float16 where that is safe: faster on a GPU, slower on a CPU"),
        "resume": (False, bool, "continue an interrupted training that had the same options"),
        "quiet": (False, bool, "print a line for each epoch and nothing else of the progress, also on a terminal"),
    },
    "optimization": {
        "phase1_learning_rate": (1e-3, (0.0, None), "learning rate of phase 1"),
        "phase2_learning_rate": (5e-4, (0.0, None), "learning rate of phase 2"),
        # Random variants of each photo whose features are computed once for phase 1.
        "phase1_views": (3, (0, None), "variants of each photo for phase 1; 0 computes every image in every epoch"),
        "frozen_share": (0.35, (0.0, 1.0), "fraction of the backbone's layers, from its input, that stays frozen"),
        "schedule": ("cosine", ["cosine", "plateau"], "how the learning rate falls"),
        "warmup_share": (0.1, (0.0, 0.9999), "fraction of a phase's steps in which the cosine's rate rises from zero"),
        "lr_factor": (0.5, (0.0, 0.9999), "factor of the learning rate at a plateau of val_loss"),
        "lr_patience": (3, (0, None), "epochs without a better val_loss that make a plateau"),
        "min_learning_rate": (1e-7, (0.0, None), "lowest learning rate of the plateau schedule"),
        "ema": (0.995, (0.0, 1.0), "longest momentum of the moving average of the weights in phase 2, 0 for none"),
        # Epochs without a better val_accuracy before a phase stops and its best epoch is restored.
        "early_stopping_patience": (0, (0, None), "epochs without a better val_accuracy that end a phase; 0 for none"),
        "loss": ("crossentropy", ["crossentropy", "focal"], "loss function"),
        "label_smoothing": (0.1, (0.0, 1.0), "fraction of each target that is spread over all classes"),
        "calibrate": (True, bool, "fit a temperature on the validation split and fold it into the model"),
        "deterministic": (False, bool, "give the same bits every time on one machine; slower"),
    },
    "network": {
        "hidden_units": (128, (1, None), "units of the head's hidden layer"),
        "backbone_dropout": (0.2, (0.0, 1.0), "dropout between backbone and hidden layer"),
        "head_dropout": (0.1, (0.0, 1.0), "dropout between hidden layer and softmax"),
    },
    "training images": {
        "cache": (True, bool, "decode each photo once, into dataset/cache/"),
        "flip": (True, bool, "mirror half of the images and swap their classes by MIRRORED_CLASS"),
        "augment": (True, bool, "change images at random, by the strengths below"),
        "mixup": (0.0, (0.0, None), "alpha of mixup's beta distribution, 0 for no mixup"),
        # Train on 192 pixels for an input of 224: a random crop shows its car larger than a whole
        # photo does, and the smaller size compensates for that (Touvron et al., FixRes, 2019,
        # https://arxiv.org/abs/1906.06423). There are also a quarter fewer pixels to compute.
        "train_scale": (6 / 7, (0.1, None), "size of training images relative to the model's input"),
    },
    "strengths of --augment": {
        "cache_scale": (1.25, (1.0, 4.0), "size of the cached photos relative to the training images cut from them"),
        "min_crop_area": (0.6, (0.01, 1.0), "smallest fraction of a photo that a crop keeps"),
        "max_crop_stretch": (1.6, (1.0, 10.0), "largest change of a photo's aspect ratio by a crop"),
        "aliased_share": (0.3, (0.0, 1.0), "fraction of images resized without averaging, as phones do"),
        "rotated_share": (0.5, (0.0, 1.0), "fraction of images that are rotated"),
        "max_rotation": (10.0, (0.0, 180.0), "largest rotation, in degrees"),
        "brightness_change": (0.45, (0.0, 1.0), "largest relative change of brightness"),
        "contrast_change": (0.35, (0.0, 1.0), "largest relative change of contrast"),
        "saturation_change": (0.3, (0.0, 1.0), "largest relative change of saturation"),
        "blurred_share": (0.2, (0.0, 1.0), "fraction of images that are blurred"),
        "max_blur_radius": (2.0, (0.0, 100.0), "largest radius of the blur, in pixels of the training image"),
        "compressed_share": (0.2, (0.0, 1.0), "fraction of images that are compressed as JPEG"),
        "min_jpeg_quality": (15.0, (1.0, 90.0), "lowest JPEG quality"),
        "erased_share": (0.1, (0.0, 1.0), "fraction of images of which a rectangle is covered with noise"),
        "max_erased_area": (0.25, (0.0, 1.0), "largest fraction of an image that is covered"),
    },
}

# The recipes, each with the options that differ from the values above. "reference" is the plain
# recipe that everybody writes first; it is kept to measure against.
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "reference": {
        "flip": False,
        "augment": False,
        "cache": False,
        "train_scale": 1.0,
        "phase1_views": 0,
        "label_smoothing": 0.0,
        "schedule": "plateau",
        "ema": 0.0,
        "batch_size": 32,
        "phase2_epochs": 15,
        "phase2_learning_rate": 1e-4,
        "frozen_share": 0.0,
        "early_stopping_patience": 7,
        "calibrate": False,
    },
}

# --- Parts -------------------------------------------------------------------------

# Names are in lower case; left and right are the CAR's own. A bumper or windscreen votes for its
# end. A door, mirror or fender votes for its side only, because it can be seen from both ends. A
# lamp is in two lists: a left headlamp votes front and left.
FRONT_PARTS = """
    bonnet frontbumper frontbumpercladding frontbumpergrille frontfoglamp frontgrille frontlicenseplate
    frontlogo frontnumberplate frontskidplate frontspoiler frontwindscreen frontwindshield frontwiper frontws
    grille headlamp headlight hood leftdrl leftfoglamp leftfoglight leftfrontbumper leftfrontbumpercladding
    leftfrontfoglamp leftfrontindicator leftheadlamp leftheadlight lowerbumpergrille lowergrille radiatorgrille
    rightdrl rightfoglamp rightfoglight rightfrontbumper rightfrontbumpercladding rightfrontfoglamp
    rightfrontindicator rightheadlamp rightheadlight uppergrille windscreen windshield
""".split()

REAR_PARTS = """
    boot bootdoor bootlid bootspoiler dickey leftbootlamp leftrearbumper leftrearbumpercladding leftrearfoglamp
    leftrearindicator leftrearlamp leftrearreflector leftstoplamp lefttaillamp lefttaillight rearbumper
    rearbumpercladding reardefogger rearfoglamp rearlicenseplate rearlogo rearnumberplate rearskidplate
    rearspoiler rearwindscreen rearwindshield rearwiper rearws rightbootlamp rightrearbumper
    rightrearbumpercladding rightrearfoglamp rightrearindicator rightrearlamp rightrearreflector rightstoplamp
    righttaillamp righttaillight silencer spoiler tailgate taillamp taillight towbarcover trunklid
""".split()

LEFT_PARTS = """
    leftapillar leftbootlamp leftbpillar leftcpillar leftdoor leftdpillar leftdrl leftfender leftfoglamp
    leftfoglight leftfrontbumper leftfrontbumpercladding leftfrontdoor leftfrontdoorcladding leftfrontdoorglass
    leftfrontdoorhandle leftfrontfender leftfrontfoglamp leftfrontindicator leftfronttyre leftfrontventglass
    leftfrontwa leftfrontwheel leftfrontwheelarch leftheadlamp leftheadlight leftindicator leftmirror leftorvm
    leftqpanel leftquarterglass leftquarterpanel leftrearbumper leftrearbumpercladding leftreardoor
    leftreardoorcladding leftreardoorglass leftreardoorhandle leftrearfender leftrearfoglamp leftrearindicator
    leftrearlamp leftrearquarterglass leftrearquarterpanel leftrearreflector leftreartyre leftrearventglass
    leftrearwa leftrearwheel leftrearwheelarch leftrockerpanel leftroofrail leftroofside leftrunningboard
    leftsideskirt leftstoplamp lefttaillamp lefttaillight lefttyre leftwa leftwheel leftwheelarch
""".split()

RIGHT_PARTS = [name.replace("left", "right", 1) for name in LEFT_PARTS]

# Visible from both ends, so they vote for nothing; listed here so that they are not reported as unknown.
NEUTRAL_PARTS = """
    alloywheel antenna car door doorglass doorhandle fender foglamp fuelcap fuellid indicator licenseplate logo
    numberplate orvm others rim roof roofrail sunroof trunk tyre wheel wheelcap wheelrim wiper
""".split()

# Damage is not a part: it neither votes nor counts towards the two parts that make a car.
DAMAGE_PARTS = """
    bend bent broken chip corrosion crack cracked cut damage damaged deformation dent dented dents dirt
    dislocated glassshatter hole missing paintchip paintpeel rust scrape scratch scratched scratches scuff
    shattered stain tear torn
""".split()

# "partial_bonnet" is a bonnet that the photo cuts off: it votes like a bonnet.
PARTIAL_PREFIX = "partial_"
