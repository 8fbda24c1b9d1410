"""Metadata inside a .tflite file: what MediaPipe and Android tools read to use the model correctly.

It has two parts (https://ai.google.dev/edge/litert/models/metadata): a flatbuffer named
TFLITE_METADATA in the model, and a zip archive appended to it with labels.txt and training.json
(see viewpoint/data/provenance.py). Interpreters ignore both. The flatbuffer's schema comes with the package mediapipe.
"""

import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import flatbuffers

import config
from viewpoint.common.images import PIXEL_MEAN, PIXEL_STD
from viewpoint.common.tensorflow import import_tensorflow
from viewpoint.data.provenance import PACKED_NAME, ModelData, as_text
from viewpoint.inference.model import LABELS_NAME

import_tensorflow()

from tensorflow.lite.python import schema_py_generated as tflite_schema
from tensorflow.lite.tools import flatbuffer_utils

BUFFER_NAME = "TFLITE_METADATA"
FILE_IDENTIFIER = b"M001"
# The oldest parser that knows all the fields below, which are those of the schema's first release.
MIN_PARSER_VERSION = "1.0.0"
MIRROR_TEXT = "The model answers with the mean of the photo and its mirror image."
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Origin:
    """Whose model it is, and what it knows of its training, for its metadata and its card."""

    author: str = NOT_STATED
    license: str = NOT_STATED
    data: ModelData | None = None


def load_schema() -> ModuleType:
    """mediapipe's module tasks.metadata.metadata_schema_py_generated, loaded without its package.

    `import mediapipe` needs libGL and other libraries that servers and slim containers lack.
    """
    package = importlib.util.find_spec("mediapipe")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("mediapipe is not installed; run pip install --requirement requirements.txt")
    path = Path(package.submodule_search_locations[0]) / "tasks" / "metadata" / "metadata_schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("metadata_schema_py_generated", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
else:
    schema = load_schema()


def add_metadata(model: bytes, labels: list[str], origin: Origin | None = None, mirror: bool = False) -> bytes:
    """The same model with its description, its input's normalization, its labels, and its origin inside.

    `mirror` says that the model averages the probabilities of a photo and its mirror image.
    Its batch size becomes 1 instead of any: LiteRT's CompiledModel in browsers refuses a model that leaves it open.
    """
    origin = origin or Origin()
    tables = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    for tensor in tables.subgraphs[0].tensors:
        tensor.shapeSignature = None  # `shape` has the 1
    size = int(tables.subgraphs[0].tensors[tables.subgraphs[0].inputs[0]].shape[1])
    buffer = tflite_schema.BufferT()
    buffer.data = pack(describe(size, origin, mirror))
    entry = tflite_schema.MetadataT()
    entry.name, entry.buffer = BUFFER_NAME, len(tables.buffers)
    tables.buffers.append(buffer)
    tables.metadata = [*(tables.metadata or []), entry]

    archive = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(tables))
    with zipfile.ZipFile(archive, "a") as packed:
        # Without a date, so that equal models are equal files.
        packed.writestr(zipfile.ZipInfo(LABELS_NAME), "\n".join(labels) + "\n")
        if origin.data:
            packed.writestr(zipfile.ZipInfo(PACKED_NAME), as_text(origin.data, with_photos=False))
    return archive.getvalue()


def describe(size: int, origin: Origin, mirror: bool) -> "schema.ModelMetadataT":
    """The metadata of a model that takes images of (size, size), with the texts of config.py."""
    # The suggested threshold is only told: clients that applied it by themselves would change their results.
    threshold = origin.data.threshold if origin.data else None
    image = schema.TensorMetadataT(
        name="image",
        description="An upright RGB photo, resized as a whole; as float32, pixel / 127.5 - 1.",
        content=schema.ContentT(
            contentPropertiesType=schema.ContentProperties.ImageProperties,
            contentProperties=schema.ImagePropertiesT(
                colorSpace=schema.ColorSpaceType.RGB,
                defaultSize=schema.ImageSizeT(width=size, height=size),
            ),
        ),
        processUnits=[
            schema.ProcessUnitT(
                optionsType=schema.ProcessUnitOptions.NormalizationOptions,
                options=schema.NormalizationOptionsT(mean=[PIXEL_MEAN], std=[PIXEL_STD]),
            )
        ],
        stats=schema.StatsT(min=[-1.0], max=[1.0]),
    )
    probability = schema.TensorMetadataT(
        name="probability",
        description=f"The probability of each class of {LABELS_NAME}, in its order; they add up to 1."
        + (f" Treat a best score below {threshold:.2f} as {config.UNKNOWN}." if threshold else ""),
        content=schema.ContentT(
            contentPropertiesType=schema.ContentProperties.FeatureProperties,
            contentProperties=schema.FeaturePropertiesT(),
        ),
        stats=schema.StatsT(min=[0.0], max=[1.0]),
        associatedFiles=[
            schema.AssociatedFileT(
                name=LABELS_NAME,
                description="The classes, one a line. Left and right are the car's own.",
                type=schema.AssociatedFileType.TENSOR_AXIS_LABELS,
            )
        ],
    )
    return schema.ModelMetadataT(
        name=config.MODEL_NAME,
        description=f"{config.MODEL_DESCRIPTION} {MIRROR_TEXT}" if mirror else config.MODEL_DESCRIPTION,
        version=config.VERSION,
        author=origin.author,
        license=origin.license,
        minParserVersion=MIN_PARSER_VERSION,
        subgraphMetadata=[schema.SubGraphMetadataT(inputTensorMetadata=[image], outputTensorMetadata=[probability])],
    )


def pack(metadata: "schema.ModelMetadataT") -> bytes:
    """The metadata as a flatbuffer."""
    builder = flatbuffers.Builder(0)
    builder.Finish(metadata.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def read_metadata(model: bytes) -> "tuple[schema.ModelMetadataT, list[str]]":
    """The metadata of a .tflite file and the labels packed with it.

    Raises ValueError when either is missing or cannot be read.
    """
    tables = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    found = [entry.buffer for entry in tables.metadata or [] if entry.name == BUFFER_NAME.encode()]
    if not found:
        raise ValueError(f"no {BUFFER_NAME} in the model")
    metadata = schema.ModelMetadataT.InitFromPackedBuf(bytes(tables.buffers[found[0]].data), 0)
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as packed:
            return metadata, packed.read(LABELS_NAME).decode().splitlines()
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"no {LABELS_NAME} packed with the model") from error
