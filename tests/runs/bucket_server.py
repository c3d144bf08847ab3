"""A bucket of this machine's own, for tests: `python bucket_server.py NAME` prints its address.

gcp-storage-emulator, with the generations that TensorStore asks for, and with faults: after a GET
of `/fault/CODE/COUNT` the next COUNT requests fail with that code.
"""

import sys
from http import HTTPStatus

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

download = objects.download


def download_with_generation(request, response, storage, *arguments, **options):
    try:
        found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
    except NotFound:
        found = None
    if found:
        response["x-goog-generation"] = found["generation"]
        if request.query.get("ifGenerationNotMatch") == [found["generation"]]:
            response.status = HTTPStatus.NOT_MODIFIED
            return
    download(request, response, storage, *arguments, **options)


objects.download = download_with_generation  # before the routes are made

from gcp_storage_emulator import server  # noqa: E402

handle = server.Router.handle
faults = {"code": 0, "left": 0}


def handle_with_faults(router, method):
    handler = router._request_handler
    if handler.path.startswith("/fault/"):
        faults["code"], faults["left"] = map(int, handler.path.split("/")[2:])
        code = HTTPStatus.OK
    elif faults["left"]:
        faults["left"] -= 1
        code = HTTPStatus(faults["code"])
    else:
        handle(router, method)
        return
    length = int(handler.headers.get("content-length") or 0)
    handler.rfile.read(length)
    handler.send_response(code)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


server.Router.handle = handle_with_faults


if __name__ == "__main__":
    running = server.create_server("127.0.0.1", 0, in_memory=True, default_bucket=sys.argv[1])
    running.start()
    print(f"http://127.0.0.1:{running._api._httpd.server_address[1]}", flush=True)
    sys.stdin.read()
    running.stop()
