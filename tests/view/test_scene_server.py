"""The page of a scene model listens behind the same guard as `stspbr view`."""

from __future__ import annotations

import urllib.error
import urllib.request

import numpy as np
import pytest

from stspbr.view.scene_view import SceneChoice, Shown


class _Show:
    count = 3

    def predict(self, choice: SceneChoice) -> Shown:
        return Shown(np.zeros((8, 8, 3)), [np.zeros((8, 8, 3))] * 2, {"normal": np.zeros((8, 8, 3))})

    def reference(self, choice: SceneChoice, round: int) -> np.ndarray:
        return np.zeros((8, 8, 3))


def test_the_page_is_on_loopback_and_asks_strangers_for_a_token():
    pytest.importorskip("viser")
    from stspbr.view.scene_server import SceneServer

    with SceneServer(_Show(), port=8391) as server:
        assert server.url.startswith("http://localhost:")
        with urllib.request.urlopen(server.url, timeout=10) as answer:
            assert answer.status == 200
    with SceneServer(_Show(), host="0.0.0.0", port=8391) as server:
        assert "token=" in server.url
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{server.guard.port}/", timeout=10)
        assert caught.value.code in (401, 403)
