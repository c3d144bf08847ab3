"""A page on this machine to search an index by words or by a sound, and to hear what is found."""

import base64
import errno
import html
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from supclap_jax.inference.page_environment import ADDRESS, UPLOADS  # before Gradio, isort: skip

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from supclap_jax.data.sound_files import BadAudio
from supclap_jax.errors import ConfigError, DataError, UserError
from supclap_jax.inference.indexed_sounds import IndexedSounds, spectrogram, to_flac
from supclap_jax.inference.loaded_model import LoadedModel
from supclap_jax.inference.nearest import Hit, query_vector, search
from supclap_jax.inference.sound_index import SoundIndex

HOSTS = (ADDRESS, "localhost")  # that a browser may have asked for, or a page elsewhere asks us
PAGES = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
FILES = "/gradio_api/file="
ROUTES = ("/assets/", "/static/", "/svelte/", "/gradio_api/startup-events", "/gradio_api/queue/",
          "/gradio_api/upload", "/gradio_api/heartbeat/", "/gradio_api/info", "/gradio_api/call/",
          "/gradio_api/app_id", "/gradio_api/cancel", "/gradio_api/reset")  # fmt: skip
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
FOUND = 8
TAGS = 5
ONE_BY_ONE = {"concurrency_id": "search", "concurrency_limit": 1}
STYLE = """
.hit {display: grid; gap: .3rem; min-width: 0}
.hit img {width: 100%; height: 64px; object-fit: fill; border-radius: 4px}
.hit audio {width: 100%; height: 2.2rem}
.hit small {opacity: .7}
.hits {display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr))}
"""
# The address follows the search, so that it can be kept and sent.
REMEMBER = """(query, language) => {
  const at = new URLSearchParams({q: query, language: language});
  history.replaceState(null, "", "?" + at);
}"""


def make_demo(model: LoadedModel, index: SoundIndex, labels: tuple[str, ...]) -> gr.Blocks:
    """The page.

    Sounds and pictures are part of what a search answers; no file is served but dropped ones.

    Args:
      model: of the index's space.
      index: that is searched.
      labels: that a given sound is tagged with.
    """
    sounds = IndexedSounds(index)
    classes = model.encode_classes(labels)

    def by_words(query: str, language: str) -> str:
        if not query.strip():
            return ""
        try:
            hits = search(index, query_vector(model, query, language=language), FOUND)
        except UserError as error:
            return f"<p>{html.escape(str(error))}</p>"
        return _listed(hits, sounds)

    def by_sound(path: str | None) -> tuple[dict[str, float], str]:
        if path is None:
            return {}, ""
        try:
            vectors = model.encode_audio([Path(path)])
            hits = search(index, vectors[0], FOUND)
        except UserError as error:
            reason = str(error).replace(path, "the sound")
            return {}, f"<p>{html.escape(reason)}</p>"
        (shares,) = model.shares(vectors, classes)
        return dict(zip(labels, map(float, shares), strict=True)), _listed(hits, sounds)

    def opened(request: gr.Request) -> tuple:
        asked = request.query_params
        if "q" not in asked:
            return gr.skip(), gr.skip(), gr.skip()
        language = asked.get("language", model.languages[0])
        if language not in model.languages:
            told = f"<p>The model was not trained on {html.escape(language)}.</p>"
            return asked["q"], model.languages[0], told
        return asked["q"], language, by_words(asked["q"], language)

    with gr.Blocks(title="Sounds", analytics_enabled=False) as page:
        rows = "windows" if index.description["windows"] else "sounds"
        gr.Markdown(f"# {len(index.vectors()):,} {rows}")
        with gr.Tab("Words"):
            with gr.Row():
                query = gr.Textbox(
                    label="What do you want to hear?", placeholder="a dog barks far away",
                    elem_id="query", scale=4,
                )  # fmt: skip
                language = gr.Dropdown(
                    list(model.languages), value=model.languages[0], label="Language", scale=1
                )
            button = gr.Button("Search", variant="primary")
            found = gr.HTML(elem_id="found")
        with gr.Tab("A sound"):
            given = gr.Audio(
                sources=["upload", "microphone"], type="filepath", label="Drop a file, or record",
                elem_id="given",
            )  # fmt: skip
            tags = gr.Label(num_top_classes=TAGS, label="Tags", elem_id="tags")
            alike = gr.HTML(elem_id="alike")
        for asked in (query.submit, button.click, language.input):
            asked(by_words, [query, language], found, **ONE_BY_ONE).then(
                None, [query, language], None, js=REMEMBER
            )
        given.change(by_sound, given, [tags, alike], **ONE_BY_ONE)
        page.load(opened, None, [query, language, found], **ONE_BY_ONE)
    return page


def serve(page: gr.Blocks, port: int) -> str:
    """Serves a page to this machine alone, in the background; returns its address.

    Args:
      page: of `make_demo`.
      port: that it listens on.

    Raises:
      ConfigError: the port is taken.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((ADDRESS, port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"({error.strerror})"
            raise ConfigError(f"port {port} of {ADDRESS} {why}; choose another --port") from error
    with _without_proxies():
        _, address, _ = page.launch(
            server_name=ADDRESS,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=STYLE,
            footer_links=[],
            max_file_size="200mb",
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            app_kwargs={"middleware": [Middleware(OnlyHere)]},
        )
    return address


@contextmanager
def _without_proxies() -> Iterator[None]:
    """Gradio asks itself whether it is there, by the way that the environment names."""
    names = [name for name in os.environ if name.lower() in PROXIES]
    kept = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ |= kept


class OnlyHere:
    """Answers pages of this machine alone, on the few routes that ours needs of Gradio's many.

    A page elsewhere whose name leads here is told by its host, one that sends us something by its
    origin. Of files those are served that were dropped.
    """

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan" or _is_allowed(scope):
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse("not served", 403)(scope, receive, send)


def _is_allowed(scope) -> bool:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    origin = headers.get(b"origin")
    if headers.get(b"host", "").partition(":")[0] not in HOSTS:
        return False
    if origin is not None and urlsplit(origin).hostname not in HOSTS:
        return False
    path = scope["path"]
    if path.startswith(FILES):
        try:
            return Path(path.removeprefix(FILES)).resolve().is_relative_to(UPLOADS)
        except (OSError, ValueError):  # no path at all
            return False
    return path in PAGES or path.startswith(ROUTES)


def _listed(hits: list[Hit], sounds: IndexedSounds) -> str:
    return f"<div class='hits'>{''.join(_shown(hit, sounds) for hit in hits)}</div>"


def _shown(hit: Hit, sounds: IndexedSounds) -> str:
    name = html.escape(hit.path)
    facts = f"{hit.start:.1f} to {hit.end:.1f} s, cosine {hit.cosine:.3f}, above "
    facts += f"{hit.percentile:.1f} %"
    try:
        samples = sounds.read(hit)
    except (BadAudio, DataError, OSError) as error:
        body = f"<small>{html.escape(str(error))}</small>"
    else:
        picture = base64.b64encode(spectrogram(samples)).decode()
        sound = base64.b64encode(to_flac(samples)).decode()
        body = (
            f'<img alt="spectrogram" src="data:image/png;base64,{picture}">'
            f'<audio controls preload="metadata" src="data:audio/flac;base64,{sound}"></audio>'
        )
    return f'<div class="hit"><b>{name}</b>{body}<small>{facts}</small></div>'
