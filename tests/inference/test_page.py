"""The page in a browser: what a person types, sees, hears and drops; and what it does not serve."""

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
from supclap_jax.inference.indexed_sounds import IndexedSounds
from supclap_jax.inference.nearest import Hit
from supclap_jax.inference.sound_index import Row, SoundIndex

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
    for path in ("/etc/passwd", "../../../../etc/passwd", str(clips.paths[0]), "pyproject.toml"):
        for form in (f"gradio_api/file={path}", f"file={path}", f"static/{path}", path.lstrip("/")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(address + form, timeout=10)
            assert refused.value.code in (400, 403, 404), form


def test_an_index_does_not_lead_out_of_its_folder(index, clips):
    sounds = IndexedSounds(index)
    whole = sounds.read(Hit(clips.paths[0].name, 0.0, 1.0, 1.0, 100.0))
    assert whole.shape == (16_000,)
    half = sounds.read(Hit(clips.paths[0].name, 0.5, 1.0, 1.0, 100.0))
    np.testing.assert_array_equal(half, whole[8_000:])
    for path in ("../development/development_00000.wav", "/etc/passwd"):
        with pytest.raises(DataError, match="is not in"):
            sounds.read(Hit(path, 0.0, 1.0, 1.0, 100.0))


def test_a_port_that_is_taken(address, model, index, capsys):
    from supclap_jax.inference.page import make_demo, serve

    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=f"port {port} .* is taken"):
        serve(make_demo(model, index, KINDS), port)
    assert main(["demo", f"--index={index.folder}", "--port=0"]) == 2
    assert "--port is 0" in capsys.readouterr().err
