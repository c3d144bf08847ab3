"""Where weight files come from: paths, a server on loopback, and what is refused."""

import http.server
import os
import pickle
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from supclap_jax.errors import ConfigError
from supclap_jax.models.weight_files import find, find_weights

FILES = {"CED/tiny/resolve/main/model/ced.safetensors": save({"weight": np.ones(3, np.float32)})}
PROGRAM = """
import sys
from supclap_jax.errors import ConfigError
from supclap_jax.models.weight_files import find_weights
try:
    print(find_weights(sys.argv[1]).read_bytes().hex())
except ConfigError as error:
    sys.exit(str(error))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """What the Hub answers to a download: HEAD with ETag, commit and length, then GET."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.wfile.write(self.answer())

    def answer(self):
        self.server.asked.append((self.command, self.path))
        content = FILES.get(self.path.lstrip("/"))
        self.send_response(404 if content is None else 200)
        if content is None:
            known = any(path.startswith(self.path.split("/resolve")[0][1:]) for path in FILES)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        self.send_header("ETag", '"0123456789"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        return content or b""

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server:
        yield server
        server.shutdown()


@pytest.fixture
def download(tmp_path):
    """Runs `find_weights` in a process of its own, which reads HF_ENDPOINT when it starts."""

    def run(source, port, **environment):
        home = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path / "cache")}
        proxies = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, source],
            capture_output=True,
            text=True,
            env=os.environ | home | proxies | environment,
            timeout=300,
        )

    return run


def test_a_file_of_the_hub_is_downloaded_once(hub, download):
    content = FILES["CED/tiny/resolve/main/model/ced.safetensors"]
    port = hub.server_address[1]
    for _ in range(2):
        result = download("hf://CED/tiny/model/ced.safetensors", port)
        assert result.stdout.strip() == content.hex(), result.stderr
    print(hub.asked)
    assert hub.asked.count(("GET", "/CED/tiny/resolve/main/model/ced.safetensors")) == 1
    offline = download("hf://CED/tiny/model/ced.safetensors", port, HF_HUB_OFFLINE="1")
    assert offline.stdout.strip() == content.hex()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://CED/tiny/other.safetensors", "Entry Not Found|404"),
        ("hf://CED/big/ced.safetensors", "Repository Not Found|404"),
        ("hf://CED/ti!ny/ced.safetensors", "ti!ny"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(hub, download, source, message):
    result = download(source, hub.server_address[1])
    assert result.returncode == 1
    assert result.stderr.startswith(f"cannot download {source}: ")
    assert any(word in result.stderr for word in message.split("|"))
    assert result.stderr.count("\n") == 1


def test_offline_is_one_line(download):
    result = download("hf://CED/tiny/ced.safetensors", 9, HF_HUB_OFFLINE="1")
    assert result.stderr.startswith("cannot download hf://CED/tiny/ced.safetensors: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "source",
    [
        "hf://CED/tiny",
        "hf://CED/tiny/",
        "hf:///tiny/x.safetensors",
        "hf://CED/tiny/../x.safetensors",
        "hf://CED/../x.safetensors",
        "hf://CED/tiny//etc/x.safetensors",
        "hf://CED/tiny/..\\x.safetensors",
    ],
)
def test_a_path_cannot_leave_its_repository(source):
    with pytest.raises(ConfigError, match="expected hf://OWNER/REPOSITORY/FILE"):
        find(source)


def test_a_missing_file_is_said(tmp_path):
    for source in (str(tmp_path / "x.safetensors"), str(tmp_path)):
        with pytest.raises(ConfigError, match="there is no file"):
            find_weights(source)


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt", "pkl"])
@pytest.mark.parametrize("place", ["{}", "hf://CED/tiny/{}"])
def test_pickles_are_refused_by_name(suffix, place):
    """Before anything is opened or downloaded: none of these exists."""
    source = place.format(f"my model.{suffix}")
    with pytest.raises(ConfigError, match="is a pickle") as error:
        find_weights(source)
    message = str(error.value)
    assert "weights_only=True" in message
    assert message.endswith(f"'my model.{suffix}' 'my model.safetensors'")
    assert "\n" not in message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_refused_by_content(tmp_path, protocol):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pickle.dumps({"weight": 1}, protocol))
    with pytest.raises(ConfigError, match=r"is a pickle.* \S+weights.converted.safetensors$"):
        find_weights(str(path))


def test_zipped_pickles_are_refused_by_content(tmp_path):
    """What `torch.save` writes."""
    path = tmp_path / "weights"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(ConfigError, match="is a pickle"):
        find_weights(str(path))


def test_a_header_that_begins_like_a_pickle_is_none(tmp_path):
    """A header of 640 bytes: the file begins with 0x80 0x02."""
    path = tmp_path / "weights.safetensors"
    for padding in range(1000):
        save_file({"x": np.zeros(1, np.float32)}, path, {"note": "." * padding})
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert find_weights(str(path)) == path


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text"])
def test_damaged_files_are_one_line(tmp_path, damage):
    path = tmp_path / "weights.safetensors"
    save_file({"x": np.zeros(100, np.float32)}, path)
    whole = path.read_bytes()
    content = {
        "cut": whole[:-1],
        "header": whole[:20],
        "empty": b"",
        "text": b"version https://git",
    }
    path.write_bytes(content[damage])
    with pytest.raises(ConfigError, match="not a whole safetensors file") as error:
        find_weights(str(path))
    assert "\n" not in str(error.value)
