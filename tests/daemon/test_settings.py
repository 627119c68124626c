"""A broken configuration gets one line that names file, key and way out, and never a secret."""

# ruff: noqa: E501  one case per line reads best

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from daemon.methods import check_methods
from daemon.settings import MqttSettings, Settings, load, parse
from stream.errors import ConfigError

SECRET = "hunter2hunter2"
GOOD = f"cameras: {{door: {{url: 'rtsp://user:{SECRET}@cam/live'}}}}\n"

BROKEN: dict[str, tuple[str, str]] = {
    # name: (yaml, what the line must hold)
    "empty": ("", "it is empty; see configs/example.yaml"),
    "a list": ("- a\n- b\n", "got list"),
    "a text": (f"rtsp://u:{SECRET}@h/x", "got str"),
    "no cameras": ("mqtt: {}\n", "cameras: Field required"),
    "no camera in cameras": ("cameras: {}\n", "cameras: Dictionary should have at least 1 item"),
    "cameras is a list": (f"cameras: [{{url: 'rtsp://u:{SECRET}@h'}}]\n", "cameras: a section with keys is needed"),
    "camera is a text": (f"cameras: {{door: 'rtsp://u:{SECRET}@h'}}\n", "cameras.door: a section with keys"),
    "camera without url": ("cameras: {door: {}}\n", "cameras.door.url: Field required"),
    "camera with empty url": ("cameras: {door: {url: ''}}\n", "cameras.door.url: String should have at least 1"),
    "camera name": ("cameras: {Front Door: {url: x}}\n", "camera name 'Front Door' may only hold a-z, 0-9 and _"),
    "camera name is a url": (f"cameras: {{'rtsp://u:{SECRET}@h': {{url: x}}}}\n", "may only hold"),
    "camera name is reserved": ("cameras: {query: {url: x}}\n", "is a topic of ours"),
    "camera name is a number": ("cameras: {1: {url: x}}\n", "cameras.1: Input should be a valid string; put it in"),
    "camera given twice": (f"cameras:\n  door: {{url: a}}\n  door: {{url: {SECRET}}}\n", "`door` given twice"),
    "section misspelt": (GOOD + "mqt: {}\n", "mqt: unknown key; did you mean 'mqtt'?"),
    "key misspelt": (GOOD + "mqtt: {hots: x}\n", "mqtt.hots: unknown key; did you mean 'host'?"),
    "deep key misspelt": (GOOD + "mqtt: {tls: {cafile: x}}\n", "mqtt.tls.cafile: unknown key; did you mean 'ca_file'?"),
    "camera key misspelt": ("cameras: {door: {url: x, timeout: 5}}\n", "door.timeout: unknown key; did you mean 'timeout_s'"),
    "nothing near": (GOOD + "model: {zzz: 1}\n", "model.zzz: unknown key; known: carrier, device, dtype, path"),
    "section is a text": (GOOD + "mqtt: 127.0.0.1\n", "mqtt: a section with keys is needed"),
    "port": (GOOD + "mqtt: {port: 70000}\n", "mqtt.port: Input should be less than or equal to 65535"),
    "port is a word": (GOOD + "mqtt: {port: mqtts}\n", "mqtt.port: Input should be a valid integer"),
    "host is a url": (GOOD + f"mqtt: {{host: 'mqtt://u:{SECRET}@h'}}\n", "mqtt.host: String should match"),
    "prefix": (GOOD + "mqtt: {prefix: 'a/#'}\n", "mqtt.prefix: String should match"),
    "reply prefix": (GOOD + "mqtt: {reply_prefixes: ['#']}\n", "mqtt.reply_prefixes: '#' is no start of a topic"),
    "protocol": (GOOD + "mqtt: {protocol: '4'}\n", "mqtt.protocol: Input should be '5' or '3.1.1'"),
    "password is a number": (GOOD + "mqtt: {username: u, password: 9182736450}\n", "mqtt.password: Input should be a valid string; put it"),
    "two passwords": (GOOD + f"mqtt: {{username: u, password: {SECRET}, password_file: /x}}\n", "mqtt: give `password` or"),
    "password without user": (GOOD + f"mqtt: {{password: {SECRET}}}\n", "mqtt: `password` needs a `username`"),
    "key without certificate": (GOOD + "mqtt: {tls: {key_file: /x}}\n", "mqtt.tls: `key_file` needs a `cert_file`"),
    "password is an alias": (GOOD + f"mqtt: {{username: u, password: *{SECRET}}}\n", "begins with * & or ! needs quotes"),
    "password is a tag": (GOOD + f"mqtt:\n  username: u\n  password: !{SECRET}\n", "begins with * & or ! needs quotes"),
    "password with a percent": (GOOD + f"mqtt: {{username: u, password: %{SECRET}}}\n", "put the text in quotes"),
    "password with a colon": (GOOD + f"mqtt:\n  username: u\n  password: a: {SECRET}\n", "holds `: ` in quotes"),
    "quote left open": (GOOD + f"mqtt: {{username: u, password: '{SECRET}}}\n", "not YAML at line"),
    "tab": (GOOD + "mqtt:\n\thost: x\n", "not YAML at line 3"),
    "control character": (GOOD + f"# {SECRET} \x01\n", "not YAML at line 2: special characters are not allowed"),
    "an impossible date": (GOOD + "model: {path: 2024-13-45}\n", "a value cannot be understood"),
    "a loop": (f"cameras: &a {{door: *a}}\n# {SECRET}\n", "nested too deeply"),
    "deep nesting": ("a: " + "[" * 5000, "nested too deeply"),
    "environment": (GOOD + "mqtt: {username: u, password: '${LONGWATCH_NO_SUCH}'}\n", "mqtt.password: environment variable LONGWATCH_NO_SUCH"),
    "timeout": ("cameras: {door: {url: x, timeout_s: 0}}\n", "cameras.door.timeout_s: Input should be greater than"),
    "not a number": (GOOD + "answer: {deadline_s: .nan}\n", "answer.deadline_s: Input should be a finite number"),
    "for ever": (GOOD + "answer: {deadline_s: .inf}\n", "answer.deadline_s: Input should be a finite number"),
    "device": (GOOD + "model: {device: gpu}\n", "model.device: Input should be 'auto', 'cpu' or 'cuda'"),
    "carriers": (GOOD + "memory: {carriers: 0}\n", "memory.carriers: Input should be greater than or equal to 1"),
    "two towers": (GOOD + "model: {tower: {none: {}, random: {}}}\n", "model.tower: exactly one method here"),
    "two reducers in one entry": (GOOD + "model: {reduce: {m3: {}, uniform: {}}}\n", "model.reduce: exactly one method here"),
    "rope scale": (GOOD + "model: {rope_scale: 0.5}\n", "model.rope_scale: Input should be greater than or equal to 1"),
    "focus tokens": (GOOD + "memory: {focus_tokens: 0}\n", "memory.focus_tokens: Input should be greater than or equal to 1"),
    "positions": (GOOD + "memory: {positions: equals}\n", "memory.positions: Input should be 'auto', 'compact', 'spaced', 'time' or 'equal'"),
    "two retain methods": (GOOD + "memory: {retain: {fifo: {}, random: {}}}\n", "memory.retain: exactly one method here"),
    "gate is no list": (GOOD + "gate: {still: {}}\n", "gate: a list of methods is needed here"),
    "two gates in one entry": (GOOD + "gate: [{still: {}, stride: {}}]\n", "gate: exactly one method here"),
    "gate is a number": (GOOD + "gate: [1]\n", "gate.0: a section with keys is needed"),
    "log level": (GOOD + "log_level: loud\n", "log_level: Input should be 'debug', 'info', 'warning' or 'error'"),
    "dozes without still": ("cameras: {door: {url: x, doze_after_s: 5, gate: [{stride: {fps: 1}}]}}\n", "cameras.door.doze_after_s: no gate says whether"),
    "looks too seldom": ("cameras: {door: {url: x, look_fps: 0.1}}\n", "look_fps: 0.1 looks too seldom to say anything after 3 s"),
    "ffmpeg option is a number": ("cameras: {door: {url: x, options: {a: 1}}}\n", "door.options.a: Input should be a valid string; put"),
}  # fmt: skip

BROKEN_METHODS: dict[str, tuple[str, str]] = {
    "retain": ("memory: {retain: adjcent}\n", "memory.retain.adjcent: unknown method; did you mean 'adjacent'?"),
    "recall": ("memory: {recall: {recnt: {}}}\n", "memory.recall.recnt: unknown method; did you mean 'recent'?"),
    "gate": ("gate: [stride, stil]\n", "gate.1.stil: unknown method; did you mean 'still'?"),
    "camera's gate": (
        "cameras: {door: {url: x, gate: [{strid: {}}]}}\n",
        "cameras.door.gate.0.strid: unknown method; did you mean 'stride'?",
    ),
    "option": ("gate: [{stride: {fsp: 2}}]\n", "gate.0.stride.fsp: unknown option; did you mean 'fps'?"),
    "option of none": ("gate: [{all: {x: 2}}]\n", "gate.0.all.x: unknown option"),
    "value": ("gate: [{stride: {fps: 0}}]\n", "gate.0.stride: fps must lie in"),
    "value's type": ("gate: [{stride: {fps: fast}}]\n", "gate.0.stride: "),
    "reduce": ("model: {reduce: unifrm}\n", "model.reduce.0.unifrm: unknown method; did you mean 'uniform'?"),
    "second of two": (
        "model: {reduce: [m3, {uniform: {dul: 1}}]}\n",
        "model.reduce.1.uniform.dul: unknown option; did you mean 'dull'?",
    ),
    "tower": ("model: {tower: unform}\n", "model.tower.unform: unknown method; did you mean 'uniform'?"),
    "carrier": ("model: {carrier: men}\n", "model.carrier.men: unknown method; did you mean 'mean'?"),
    "prefill": ("model: {prefill: unform}\n", "model.prefill.unform: unknown method; did you mean 'uniform'?"),
    "focus": ("memory: {focus: unform}\n", "memory.focus.unform: unknown method; did you mean 'uniform'?"),
    "several": ("gate: [stil]\nmemory: {retain: adjcent}\n", "'still'?; memory.retain.adjcent"),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "longwatch.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def assert_one_clean_line(caught: pytest.ExceptionInfo[ConfigError], path: Path, expected: str) -> None:
    line = str(caught.value)
    assert expected in line
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    whole = "".join(traceback.format_exception(caught.value))  # what a log of it would show
    own = [part for part in whole.splitlines() if "site-packages" not in part]
    for secret in (SECRET, "9182736450"):
        assert not any(secret in part for part in own), whole


@pytest.mark.parametrize("case", BROKEN)
def test_broken(tmp_path: Path, case: str) -> None:
    text, expected = BROKEN[case]
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert_one_clean_line(caught, path, expected)


@pytest.mark.parametrize("case", BROKEN_METHODS)
def test_broken_methods(tmp_path: Path, case: str) -> None:
    text, expected = BROKEN_METHODS[case]
    path = write(tmp_path, text if text.startswith("cameras") else GOOD + text)
    with pytest.raises(ConfigError) as caught:
        check_methods(load(path), str(path))
    assert_one_clean_line(caught, path, expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "FileNotFoundError"), (b"\xff\xfe\x00x", "UnicodeDecodeError"), (b"a" * 1_000_001, "too many")],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        load(path)
    with pytest.raises(ConfigError, match="IsADirectoryError"):
        load(tmp_path)


def test_defaults_are_whole_and_their_methods_exist(tmp_path: Path) -> None:
    settings = load(write(tmp_path, GOOD))
    check_methods(settings)
    assert settings == parse({"cameras": {"door": {"url": f"rtsp://user:{SECRET}@cam/live"}}}, "here")
    assert settings.memory.retain == {"adjacent": {}}


def test_short_forms_of_methods(tmp_path: Path) -> None:
    settings = load(write(tmp_path, GOOD + "gate:\n- still\n- stride:\n- stride: {fps: 2}\nmemory: {recall: all}\n"))
    assert settings.gate == ({"still": {}}, {"stride": {}}, {"stride": {"fps": 2}})
    assert settings.memory.recall == {"all": {}}


@pytest.mark.parametrize("text", ["m3", "{m3: }", "[m3]", "[{m3: {}}]"])
def test_one_reducer_is_a_list_of_one(tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path, GOOD + f"model: {{reduce: {text}}}\n")).model.reduce == ({"m3": {}},)


def test_reducers_keep_their_order(tmp_path: Path) -> None:
    text = GOOD + "model: {reduce: [{m3: {keen: 49}}, uniform]}\n"
    assert load(write(tmp_path, text)).model.reduce == ({"m3": {"keen": 49}}, {"uniform": {}})


def test_anchors_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    text = "\ufeffcameras:\n  a: &base {url: x, timeout_s: 7}\n  b: {<<: *base, url: y}\n"
    settings = load(write(tmp_path, text))
    assert (settings.cameras["b"].url, settings.cameras["b"].timeout_s) == ("y", 7.0)


def test_environment_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAM_PASSWORD", "p: *&'")
    settings = load(write(tmp_path, "cameras: {door: {url: 'rtsp://u:${CAM_PASSWORD}@h'}}\n"))
    assert settings.cameras["door"].url == "rtsp://u:p: *&'@h"


def test_where_the_password_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").write_text(" two words \n")
    (tmp_path / "mqtt-password").write_text("from systemd\n")
    (tmp_path / "empty").write_text("\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert MqttSettings().secret() is None
    assert MqttSettings(username="u").secret() == "from systemd"
    assert MqttSettings(username="u", password_file=tmp_path / "own").secret() == " two words "
    (tmp_path / "mqtt-password").write_text("\n")  # the unit's default: no password
    assert MqttSettings(username="u").secret() is None
    for name, why in (("empty", "is empty"), ("gone", "cannot read")):
        with pytest.raises(ConfigError, match=why):
            MqttSettings(username="u", password_file=tmp_path / name).secret()


def test_settings_never_show_the_password() -> None:
    settings = parse({"cameras": {"a": {"url": "x"}}, "mqtt": {"username": "u", "password": SECRET}}, "here")
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.model_dump(mode="json"))


def test_all_secrets_are_known_to_the_logs() -> None:
    cameras = {"a": {"url": "rtsp://u:p @/x@h/y"}, "b": {"url": "rtsp://h:554/x"}, "c": {"url": "clip.mp4"}}
    settings = parse({"cameras": cameras, "mqtt": {"username": "u", "password": SECRET}}, "here")
    assert settings.secrets() == (SECRET, "p @/x")
    settings = parse({"cameras": cameras, "mqtt": {"username": "u", "password_file": "/no/such"}}, "here")
    assert settings.secrets() == ("p @/x",)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from([*Settings.model_fields, *MqttSettings.model_fields, "door", "url"]) | st.text(max_size=4)


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.dictionaries(KEYS, st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner))))
def test_any_data_is_settings_or_one_line(raw: dict[str, object]) -> None:
    line = "x.yaml: "
    try:
        parse(raw, "x.yaml")
    except ConfigError as error:
        line = str(error)
    assert line.startswith("x.yaml: ")
    assert "\n" not in line
