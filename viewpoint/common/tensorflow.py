"""Use TensorFlow and LiteRT without the lines that they print while they start or convert a model.

Their C++ code writes them straight to file descriptor 2, where neither Python's warnings
filter nor TF_CPP_MIN_LOG_LEVEL reaches them. So for that time a small process reads the
descriptor and passes on all but the lines known to be harmless. It is a process of its own
because a crash (a processor without AVX, a broken driver) must still show its message.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

from viewpoint.common.parallel import cpu_count

# Information (I), and warnings and errors that only say that there is no GPU, or which instructions are used.
HARMLESS = (
    r"^I\d{4} |^\d{4}-\d\d-\d\d \S+: I |All log messages before absl::InitializeLog|oneDNN custom operations"
    r"|[Cc]ould not find cuda drivers|failed call to cuInit|no CUDA-capable device"
    r"|Unable to register cu\w+ factory|computation placer already registered|optimized to use available CPU"
    r"|To enable the following instructions|Created TensorFlow Lite XNNPACK delegate|^fully_quantize: "
)
FILTER = f"""
import re, sys
for line in sys.stdin.buffer:
    if not re.search({HARMLESS!r}, line.decode(errors="replace")):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


# Two threads that replace the descriptor at the same time would leave it with a filter that has ended.
DESCRIPTOR_2 = threading.RLock()


@contextlib.contextmanager
def without_harmless_lines() -> Iterator[None]:
    """While the block runs, drop the HARMLESS lines from file descriptor 2 and pass on all others."""
    command = [sys.executable, "-S", "-E", "-c", FILTER]
    with DESCRIPTOR_2:
        sys.stderr.flush()
        original = os.dup(2)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=original) as line_filter:
            assert line_filter.stdin
            os.dup2(line_filter.stdin.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(original, 2)
                os.close(original)
                line_filter.stdin.close()  # the end of its input lets the filter finish


def import_tensorflow() -> None:
    """Import TensorFlow and let it look for devices; call this before `import keras` or `import tensorflow`."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with without_harmless_lines():
        import tensorflow as tf

        # TensorFlow itself does not notice the CPU limit of a container.
        tf.config.threading.set_intra_op_parallelism_threads(cpu_count())
        tf.config.threading.set_inter_op_parallelism_threads(cpu_count())
        tf.config.list_logical_devices()  # otherwise the first computation prints that it found no GPU
