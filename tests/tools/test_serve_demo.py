"""The server of the capture guide; the page itself is tested in test_guide.py."""

import http.client
import shutil
import ssl
import threading

import pytest
import serve_demo

from viewpoint.common.cli import UserError


def test_a_missing_guide_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"model\.tflite not found; run convert_tflite\.py"):
        serve_demo.make_server(tmp_path, 0)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_phones_get_the_page_by_https_with_a_certificate_for_the_address(tmp_path, monkeypatch):
    guide = tmp_path / "handoff" / "web"
    (guide / "runtime").mkdir(parents=True)
    (guide / "model.tflite").write_bytes(b"a model")
    monkeypatch.setattr(serve_demo, "own_address", lambda: "127.0.0.1")
    with serve_demo.make_server(tmp_path, 0, phone=True) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        certificate = ssl.get_server_certificate(("127.0.0.1", server.server_port))
        # Trusting just this certificate also checks that it is for this address.
        context = ssl.create_default_context(cadata=certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", server.server_port, context=context)
        connection.request("GET", "/model.tflite")
        assert connection.getresponse().read() == b"a model"
        connection.close()
        server.shutdown()
