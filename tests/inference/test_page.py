"""The page in a browser: what a person types, sees, hears and drops; and what it does not serve."""

import json
import shutil
import socket
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from supclap_jax.cli.main import main
from supclap_jax.data.clotho import read_clotho
from supclap_jax.data.sound_events import KINDS
from supclap_jax.errors import ConfigError, DataError
from supclap_jax.inference import load
from supclap_jax.inference.folder_embedder import embed_folder
from supclap_jax.inference.indexed_sounds import IndexedSounds
from supclap_jax.inference.nearest import Hit, search
from supclap_jax.inference.page_environment import UPLOADS
from supclap_jax.inference.sound_index import Row, SoundIndex
from tests.data import published

pytest.importorskip("gradio")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def model(untrained):
    return load(untrained, step=0)


@pytest.fixture(scope="module")
def clips(soundscape):
    return read_clotho(Path(soundscape), "evaluation", ("eng_Latn",))


@pytest.fixture(scope="module")
def index(model, clips, tmp_path_factory):
    """Each clip lies between its sound and its first caption, as of a model that knows both."""
    folder = clips.paths[0].parent
    captions = [texts[0] for texts in clips.captions["eng_Latn"]]
    vectors = model.encode_audio(clips.paths) + model.encode_text(captions)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    description = {
        "space": model.space, "source": str(folder), "digest": "", "windows": False, "window": 1.0,
        "hop": None, "dtype": "float32", "dim": model.dim, "model": str(model.name), "step": 0,
    }  # fmt: skip
    index = SoundIndex.claim(tmp_path_factory.mktemp("demo") / "index", description)
    index.append(
        [
            Row(path.name, 0.0, 1.0, 1.0, 1, 1, vector)
            for path, vector in zip(clips.paths, vectors, strict=True)
        ]
    )
    return index


@pytest.fixture(scope="module")
def address(model, index):
    from supclap_jax.inference.page import make_demo, serve

    page = make_demo(model, index, KINDS)
    yield serve(page, free_port())
    page.close()


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_person_finds_hears_and_drops_sounds(address, clips):
    playwright = pytest.importorskip("playwright.sync_api")
    wanted, caption = clips.paths[3], clips.captions["eng_Latn"][3][0]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.get_by_label("What do you want to hear?").fill(caption)
        page.keyboard.press("Enter")
        names = page.locator("#found .hit b")
        names.first.wait_for()
        assert wanted.name in names.all_inner_texts()[:3]
        page.evaluate("document.querySelector('#found audio').play()")
        page.wait_for_function("document.querySelector('#found audio').currentTime > 0.1")
        picture = "document.querySelector('#found img').naturalWidth"
        assert page.evaluate(picture) > 50
        page.wait_for_function("location.search.length > 20")
        found = names.all_inner_texts()
        page.reload()
        names.first.wait_for()
        assert names.all_inner_texts() == found
        assert page.get_by_label("What do you want to hear?").input_value() == caption
        page.get_by_role("tab", name="A sound").click()
        page.locator("#given input[type=file]").set_input_files(wanted)
        alike = page.locator("#alike .hit b")
        alike.first.wait_for()
        assert wanted.name in alike.all_inner_texts()[:3]
        tags = page.locator("#tags").inner_text()
        assert sum(kind in tags for kind in KINDS) >= 3
        browser.close()
    assert all(url.startswith((address, "data:", "blob:")) for url in asked), asked


def test_no_file_is_served(address, clips, tmp_path):
    paths = ("/etc/passwd", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "pyproject.toml",
             "%00", str(clips.paths[0]), f"{UPLOADS}/../../etc/passwd", f"{address}config",
             "https://example.com/")  # fmt: skip
    for path in paths:
        for form in ("file=", "file/", "proxy=", "static/", "custom_component/", "vibe-code/"):
            for base in ("", "gradio_api/"):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(address + base + form + path, timeout=10)
                assert refused.value.code in (400, 403, 404), base + form + path


def test_only_this_machine_is_answered(address):
    """And not a page elsewhere whose name leads here."""
    for host in ("evil.example:7860", "evil.example", ""):
        asked = urllib.request.Request(f"{address}config", headers={"Host": host})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=10)
        assert refused.value.code in (400, 403)
    elsewhere = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    sent = urllib.request.Request(f"{address}gradio_api/upload", b"x", elsewhere)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(sent, timeout=10)
    assert refused.value.code == 403
    urllib.request.urlopen(f"{address}config", timeout=10)


def test_a_call_with_the_path_of_a_file_does_not_read_it(address, clips):
    """As a program would call what dropping a sound calls."""
    given = {"path": str(clips.paths[0]), "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [given]}).encode()
    headers = {"Content-Type": "application/json"}
    call = urllib.request.Request(f"{address}gradio_api/call/by_sound", body, headers)
    event = json.load(urllib.request.urlopen(call, timeout=30))["event_id"]
    answer = f"{address}gradio_api/call/by_sound/{event}"
    told = urllib.request.urlopen(answer, timeout=30).read().decode()
    assert "event: error" in told and "audio/flac" not in told


def test_names_are_text(index):
    from supclap_jax.inference.page import _listed

    name = "<img src=x onerror=alert(1)>\n.wav"
    shown = _listed([Hit(name, 0.0, 1.0, 1.0, 100.0)], IndexedSounds(index))
    assert "<img src=x" not in shown and "&lt;img src=x" in shown


def test_an_index_does_not_lead_out_of_its_folder(index, clips):
    sounds = IndexedSounds(index)
    whole = sounds.read(Hit(clips.paths[0].name, 0.0, 1.0, 1.0, 100.0))
    assert whole.shape == (16_000,)
    half = sounds.read(Hit(clips.paths[0].name, 0.5, 1.0, 1.0, 100.0))
    np.testing.assert_array_equal(half, whole[8_000:])
    for path in ("../development/development_00000.wav", "/etc/passwd"):
        with pytest.raises(DataError, match="is not in"):
            sounds.read(Hit(path, 0.0, 1.0, 1.0, 100.0))
    for start, end in ((1.0, 0.5), (-1.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(DataError, match="has no part from"):
            sounds.read(Hit(clips.paths[0].name, start, end, 1.0, 100.0))


def test_clips_of_a_prepared_set_are_heard(model, tmp_path):
    source, prepared, out = published.esc50(tmp_path / "in"), tmp_path / "out", tmp_path / "index"
    assert main(["prepare", "--format=esc50", f"--source={source}", f"--out={prepared}"]) == 0
    embed_folder(model, prepared, out)
    index = SoundIndex(out)
    (hit,) = search(index, index.vectors()[0].astype(np.float32), 1)
    assert np.abs(IndexedSounds(index).read(hit)).max() > 0
    with pytest.raises(DataError, match="no clip"):
        IndexedSounds(index).read(hit._replace(path="train/none"))
    description = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps(description | {"digest": "another"}))
    with pytest.raises(DataError, match="holds other clips"):
        IndexedSounds(SoundIndex(out))


def test_a_port_that_is_taken(address, model, index, capsys):
    from supclap_jax.inference.page import make_demo, serve

    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=f"port {port} .* is taken"):
        serve(make_demo(model, index, KINDS), port)
    assert main(["demo", f"--index={index.folder}", "--port=0"]) == 2
    assert "--port is 0" in capsys.readouterr().err
