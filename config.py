"""Every name and number that the scripts share, grouped by the script that uses it.

Change a value here for good, or override it once on a script's command line
(`python train.py --help` lists the names).
"""

# --- Classes: used by every script -------------------------------------------------

# The order of the model's outputs, of labels.txt and of every report. Never sort it.
CLASSES = ["Front", "FrontLeft", "FrontRight", "Rear", "RearLeft", "RearRight", "Background"]

# The class of a photo once it is mirrored left to right.
MIRRORED_CLASS = {
    "Front": "Front",
    "FrontLeft": "FrontRight",
    "FrontRight": "FrontLeft",
    "Rear": "Rear",
    "RearLeft": "RearRight",
    "RearRight": "RearLeft",
    "Background": "Background",
}

# Width and height of the model's input, in pixels.
IMAGE_SIZE = 224

# Files that count as photos, compared in lower case.
IMAGE_EXTENSIONS = [".jpg", ".jpeg", ".png", ".bmp", ".webp", ".heic", ".heif"]

# Larger images are refused before they are decoded, for a few bytes can claim any size.
MAX_MEGAPIXELS = 200

SEED = 42

# --- Paths: the defaults of every script -------------------------------------------

DATA_DIR = "photos"  # the annotated photos, read only
DATASET_DIR = "dataset"  # train.csv, val.csv, test.csv and a summary
MODELS_DIR = "models"  # model.keras, saved_model/, report/ and model.tflite
PREDICTIONS_PATH = "predictions.csv"

# --- Pages and pictures to look at ------------------------------------------------

THUMBNAIL_SIZE = 200  # largest width and height of a photo on pages and contact sheets, pixels
CONTACT_SHEET_COLUMNS = 6
CONTACT_SHEET_IMAGES = 120  # a contact sheet shows the least certain photos, at most so many

# --- data_preparation.py -----------------------------------------------------------

# The key of region_attributes that names the part.
IDENTITY_KEY = "identity"

# Larger files are refused: read into memory, they take ten times their size.
MAX_JSON_MEGABYTES = 100

# "partial_bonnet" is a bonnet that the photo cuts off: it votes like a bonnet.
PARTIAL_PREFIX = "partial_"

VAL_SHARE = 0.1
TEST_SHARE = 0.1

# Photos whose 64-bit perceptual hashes differ in at most so many bits are nearly equal.
DUPLICATE_BITS = 4

# The review page: so many photos unless told otherwise, and what is written of a photo
# whose label is wrong, but whose class nobody gave.
REVIEW_IMAGES = 4000
WRONG = "Wrong"

# How much each reason to doubt a label counts; the first is multiplied by the share of
# probability that a trained model gives to other classes.
SUSPICIONS = {
    "model": 3.0,
    "tie": 0.6,
    "twin": 0.6,  # a photo next to it in its folder looks alike and has another label
    "no end": 0.3,  # left or right parts only, which mean Front by rule
    "sides": 0.3,  # left and right parts together
    "ends": 0.15,  # front and rear parts together
    "margin": 0.15,  # one vote more or less decides
    "neighbours": 0.15,  # the photos before and after it agree with each other and not with it
    "single": 0.1,  # a Background because of too few parts
}
# Photos whose 64-bit perceptual hashes differ in at most so many bits look alike.
TWIN_BITS = 10

# Parts are written in lower case; left and right are the CAR's own. A bumper or windscreen
# votes for its end. A door, mirror or fender votes for its side only, because it is seen
# from both ends. A lamp stands in two lists: a left headlamp votes front and left.
FRONT_PARTS = [
    "bonnet",
    "frontbumper",
    "frontbumpercladding",
    "frontbumpergrille",
    "frontfoglamp",
    "frontgrille",
    "frontlicenseplate",
    "frontlogo",
    "frontnumberplate",
    "frontskidplate",
    "frontspoiler",
    "frontwindscreen",
    "frontwindshield",
    "frontwiper",
    "frontws",
    "grille",
    "headlamp",
    "headlight",
    "hood",
    "leftdrl",
    "leftfoglamp",
    "leftfoglight",
    "leftfrontbumper",
    "leftfrontbumpercladding",
    "leftfrontfoglamp",
    "leftfrontindicator",
    "leftheadlamp",
    "leftheadlight",
    "lowerbumpergrille",
    "lowergrille",
    "radiatorgrille",
    "rightdrl",
    "rightfoglamp",
    "rightfoglight",
    "rightfrontbumper",
    "rightfrontbumpercladding",
    "rightfrontfoglamp",
    "rightfrontindicator",
    "rightheadlamp",
    "rightheadlight",
    "uppergrille",
    "windscreen",
    "windshield",
]

REAR_PARTS = [
    "boot",
    "bootdoor",
    "bootlid",
    "bootspoiler",
    "dickey",
    "leftbootlamp",
    "leftrearbumper",
    "leftrearbumpercladding",
    "leftrearfoglamp",
    "leftrearindicator",
    "leftrearlamp",
    "leftrearreflector",
    "leftstoplamp",
    "lefttaillamp",
    "lefttaillight",
    "rearbumper",
    "rearbumpercladding",
    "reardefogger",
    "rearfoglamp",
    "rearlicenseplate",
    "rearlogo",
    "rearnumberplate",
    "rearskidplate",
    "rearspoiler",
    "rearwindscreen",
    "rearwindshield",
    "rearwiper",
    "rearws",
    "rightbootlamp",
    "rightrearbumper",
    "rightrearbumpercladding",
    "rightrearfoglamp",
    "rightrearindicator",
    "rightrearlamp",
    "rightrearreflector",
    "rightstoplamp",
    "righttaillamp",
    "righttaillight",
    "silencer",
    "spoiler",
    "tailgate",
    "taillamp",
    "taillight",
    "towbarcover",
    "trunklid",
]

LEFT_PARTS = [
    "leftapillar",
    "leftbootlamp",
    "leftbpillar",
    "leftcpillar",
    "leftdoor",
    "leftdpillar",
    "leftdrl",
    "leftfender",
    "leftfoglamp",
    "leftfoglight",
    "leftfrontbumper",
    "leftfrontbumpercladding",
    "leftfrontdoor",
    "leftfrontdoorcladding",
    "leftfrontdoorglass",
    "leftfrontdoorhandle",
    "leftfrontfender",
    "leftfrontfoglamp",
    "leftfrontindicator",
    "leftfronttyre",
    "leftfrontventglass",
    "leftfrontwa",
    "leftfrontwheel",
    "leftfrontwheelarch",
    "leftheadlamp",
    "leftheadlight",
    "leftindicator",
    "leftmirror",
    "leftorvm",
    "leftqpanel",
    "leftquarterglass",
    "leftquarterpanel",
    "leftrearbumper",
    "leftrearbumpercladding",
    "leftreardoor",
    "leftreardoorcladding",
    "leftreardoorglass",
    "leftreardoorhandle",
    "leftrearfender",
    "leftrearfoglamp",
    "leftrearindicator",
    "leftrearlamp",
    "leftrearquarterglass",
    "leftrearquarterpanel",
    "leftrearreflector",
    "leftreartyre",
    "leftrearventglass",
    "leftrearwa",
    "leftrearwheel",
    "leftrearwheelarch",
    "leftrockerpanel",
    "leftroofrail",
    "leftroofside",
    "leftrunningboard",
    "leftsideskirt",
    "leftstoplamp",
    "lefttaillamp",
    "lefttaillight",
    "leftwa",
    "leftwheelarch",
]

RIGHT_PARTS = [
    "rightapillar",
    "rightbootlamp",
    "rightbpillar",
    "rightcpillar",
    "rightdoor",
    "rightdpillar",
    "rightdrl",
    "rightfender",
    "rightfoglamp",
    "rightfoglight",
    "rightfrontbumper",
    "rightfrontbumpercladding",
    "rightfrontdoor",
    "rightfrontdoorcladding",
    "rightfrontdoorglass",
    "rightfrontdoorhandle",
    "rightfrontfender",
    "rightfrontfoglamp",
    "rightfrontindicator",
    "rightfronttyre",
    "rightfrontventglass",
    "rightfrontwa",
    "rightfrontwheel",
    "rightfrontwheelarch",
    "rightheadlamp",
    "rightheadlight",
    "rightindicator",
    "rightmirror",
    "rightorvm",
    "rightqpanel",
    "rightquarterglass",
    "rightquarterpanel",
    "rightrearbumper",
    "rightrearbumpercladding",
    "rightreardoor",
    "rightreardoorcladding",
    "rightreardoorglass",
    "rightreardoorhandle",
    "rightrearfender",
    "rightrearfoglamp",
    "rightrearindicator",
    "rightrearlamp",
    "rightrearquarterglass",
    "rightrearquarterpanel",
    "rightrearreflector",
    "rightreartyre",
    "rightrearventglass",
    "rightrearwa",
    "rightrearwheel",
    "rightrearwheelarch",
    "rightrockerpanel",
    "rightroofrail",
    "rightroofside",
    "rightrunningboard",
    "rightsideskirt",
    "rightstoplamp",
    "righttaillamp",
    "righttaillight",
    "rightwa",
    "rightwheelarch",
]

# Seen from both ends, so they vote for nothing; known, so they are not reported.
NEUTRAL_PARTS = [
    "alloywheel",
    "antenna",
    "car",
    "door",
    "doorglass",
    "doorhandle",
    "fender",
    "foglamp",
    "fuelcap",
    "fuellid",
    "indicator",
    "licenseplate",
    "logo",
    "numberplate",
    "orvm",
    "others",
    "rim",
    "roof",
    "roofrail",
    "sunroof",
    "trunk",
    "tyre",
    "wheel",
    "wheelcap",
    "wheelrim",
    "wiper",
]

# Damage is no part: it neither votes nor counts towards the two parts a car needs.
DAMAGE_PARTS = [
    "bend",
    "bent",
    "broken",
    "chip",
    "corrosion",
    "crack",
    "cracked",
    "cut",
    "damage",
    "deformation",
    "dent",
    "dents",
    "dirt",
    "dislocated",
    "glassshatter",
    "hole",
    "missing",
    "paintchip",
    "paintpeel",
    "rust",
    "scrape",
    "scratch",
    "scratches",
    "scuff",
    "shattered",
    "stain",
    "tear",
    "torn",
]

# --- train.py ----------------------------------------------------------------------

# The two recipes, and all that differs between them. "reference" is the plain recipe that
# everybody writes first; it is kept to measure against.
RECIPES = {
    "default": {
        "flip": True,  # mirror half the images, and swap their classes by MIRRORED_CLASS
        "augment": True,  # the random changes of augmentation.py
        "cache": True,  # decode each photo once, into dataset/cache, not once an epoch
        # Train on images of 192 pixels for an input of 224: a crop shows its car larger than a
        # whole photo does, which this sets right (Touvron et al., FixRes, 2019,
        # https://arxiv.org/abs/1906.06423), and there are a quarter fewer pixels.
        "train_scale": 6 / 7,
        "fold_batchnorm": True,  # let frozen BatchNorm scale kernels, not activations: the same, faster
        "phase1_views": 3,  # run phase 1 on the features of so many variants of each photo
        "label_smoothing": 0.1,
        "schedule": "cosine",  # warm-up, then down to zero along a cosine
        "ema": 0.98,  # share of the averaged weights that a step keeps, 0 for no averaging
        "batch_size": 16,
        "phase2_epochs": 18,
        "phase2_learning_rate": 5e-4,
        "frozen_share": 0.35,  # share of the backbone's first layers that phase 2 leaves frozen
        "early_stopping_patience": 0,  # 0: train all epochs and keep the last
        "calibrate": True,  # fit a temperature on validation and fold it into the model
    },
    "reference": {
        "flip": False,
        "augment": False,
        "cache": False,
        "train_scale": 1.0,
        "fold_batchnorm": False,
        "phase1_views": 0,  # push every image through the frozen backbone in every epoch
        "label_smoothing": 0.0,
        "schedule": "plateau",  # halve the rate when val_loss stands still
        "ema": 0.0,
        "batch_size": 32,
        "phase2_epochs": 15,
        "phase2_learning_rate": 1e-4,
        "frozen_share": 0.0,
        "early_stopping_patience": 7,  # epochs without a better val_accuracy; the best is kept
        "calibrate": False,
    },
}

# Backbones that train.py knows, by their names in keras.applications.
BACKBONES = ["MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0"]

LOSS = "crossentropy"  # or "focal"
MIXUP = 0.0  # alpha of its beta distribution, 0 for none
HIDDEN_UNITS = 128
BACKBONE_DROPOUT = 0.2  # between backbone and hidden layer
HEAD_DROPOUT = 0.1  # between hidden layer and softmax

# Phase 1 trains the head on the frozen backbone, phase 2 the backbone with it.
PHASE1_EPOCHS = 20
PHASE1_LEARNING_RATE = 1e-3

# The plateau schedule.
LR_FACTOR = 0.5
LR_PATIENCE = 3
MIN_LEARNING_RATE = 1e-7

# The cosine schedule: share of a phase's steps in which the rate rises from zero.
WARMUP_SHARE = 0.1

# BatchNorm's own default, 0.999, needs thousands of steps to forget its random start.
# Used only where BatchNorm trains, that is with --weights none.
BATCHNORM_MOMENTUM = 0.9

# Bins of the expected calibration error and the reliability diagram.
CALIBRATION_BINS = 15

# train.py suggests the least --unknown-below that gives this accuracy on validation.
SUGGESTED_ACCURACY = 0.98

# The report shows so many of the most confident mistakes.
MISTAKES_SHOWN = 24

# The robustness figures use so many images of the test split; all, if it holds fewer.
ROBUSTNESS_IMAGES = 500

# How strongly training images are changed at random: each is also an option of train.py, with
# its least and greatest value.
AUGMENTATION = {
    "cache_scale": (1.25, 1, 4, "size that training images are cut out of, in their sizes"),
    "min_crop_area": (0.6, 0.01, 1, "least share of a photo that a crop keeps"),
    "max_crop_stretch": (1.6, 1, 10, "largest change of a photo's aspect ratio by a crop"),
    "aliased_share": (0.3, 0, 1, "share of images that are resized without averaging, as phones do"),
    "rotated_share": (0.5, 0, 1, "share of images that are turned"),
    "max_rotation": (10.0, 0, 180, "largest turn, in degrees"),
    "brightness_change": (0.45, 0, 1, "largest change of brightness, as a share of it"),
    "contrast_change": (0.35, 0, 1, "largest change of contrast, as a share of it"),
    "saturation_change": (0.6, 0, 1, "largest change of saturation, as a share of it"),
    "blurred_share": (0.2, 0, 1, "share of images that are blurred"),
    "max_blur_radius": (2.0, 0, 100, "largest radius of the blur, in pixels of the model's input"),
    "compressed_share": (0.2, 0, 1, "share of images that are compressed as JPEG"),
    "min_jpeg_quality": (15, 1, 90, "lowest JPEG quality, 1 to 90"),
    "erased_share": (0.1, 0, 1, "share of images of which a rectangle is covered with noise"),
    "max_erased_area": (0.25, 0, 1, "largest share of an image that is covered"),
}

# --- convert_tflite.py -------------------------------------------------------------

# What the model's metadata and model card say of it.
MODEL_NAME = "Vehicle viewpoint classifier"
MODEL_DESCRIPTION = "From where a car was photographed. Left and right are the car's own."
MODEL_VERSION = "1.0"
MODEL_AUTHOR = "not stated"
MODEL_LICENSE = "not stated"

# The four precisions: what weights and activations are stored in.
PRECISIONS = ["float16", "float32", "dynamic", "int8"]

MIN_AGREEMENT = 0.99  # share of validation images with the same class
AGREEMENT_IMAGES = 500  # drawn from the validation split; all, if it holds fewer
CALIBRATION_IMAGES = 300  # drawn from the training split, for the ranges of int8

# The golden set of the hand-off folder: photos with their exact input and expected output.
GOLDEN_IMAGES = 12
# How far another device may be from the expected probabilities.
GOLDEN_TOLERANCE = {"float16": 0.02, "float32": 0.02, "dynamic": 0.05, "int8": 0.1}

# --- test_predict.py ---------------------------------------------------------------

UNKNOWN = "Unknown"  # what is written where the best score is below --unknown-below
