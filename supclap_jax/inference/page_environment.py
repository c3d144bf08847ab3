"""What Gradio finds in the environment when it is imported, which is after this."""

import atexit
import os
import shutil
import tempfile

ADDRESS = "127.0.0.1"
# Dropped sounds; nobody else can read there.
UPLOADS = os.path.realpath(tempfile.mkdtemp(prefix="supclap-"))
atexit.register(shutil.rmtree, UPLOADS, ignore_errors=True)
for name in [name for name in os.environ if name.startswith("GRADIO_")]:
    del os.environ[name]  # such as folders to serve
os.environ |= {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_TEMP_DIR": UPLOADS,
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
