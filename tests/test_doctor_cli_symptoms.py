"""The symptom catalogue: each row against a text that shows it and one that nearly does, and `--symptom`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from onnxsd.cli import main
from onnxsd.cli.doctor_symptom import show_symptom
from onnxsd.doctor import CHECKS
from onnxsd.doctor.symptoms import Says, Symptom, catalogue, matches
from onnxsd.errors import UsageError

TEXTS = yaml.safe_load((Path(__file__).parent / "symptom_texts.yaml").read_text(encoding="utf-8"))
ROWS = pytest.mark.parametrize("symptom", catalogue(), ids=lambda symptom: symptom.id)


def text_of(symptom: Symptom) -> str:
    """A text as users send it, that shows the symptom."""
    text: str = TEXTS[symptom.id]["text"]
    return text


def near_miss_of(symptom: Symptom) -> str:
    """The same text with the one change that makes it another's."""
    old, new = TEXTS[symptom.id]["near_miss"]
    assert old in text_of(symptom)
    return text_of(symptom).replace(old, new)


def ids_of(text: str) -> list[str]:
    """The symptoms that a text shows, the likeliest first."""
    return [match.symptom.id for match in matches(text)]


def test_every_row_has_its_texts() -> None:
    assert set(TEXTS) == {symptom.id for symptom in catalogue()}


@ROWS
def test_a_symptom_is_the_first_answer_to_its_text(symptom: Symptom) -> None:
    assert ids_of(text_of(symptom))[0] == symptom.id


@ROWS
def test_a_symptom_is_no_answer_to_a_near_miss(symptom: Symptom) -> None:
    assert symptom.id not in ids_of(near_miss_of(symptom))


@ROWS
def test_each_pattern_of_a_symptom_can_match(symptom: Symptom) -> None:
    for pattern in symptom.patterns:
        assert symptom.id in ids_of(" ".join(phrase.replace("*", "x") for phrase in pattern)), pattern


SPELLINGS = {
    "capitals": str.upper,
    "colours": lambda text: "\n".join(f"\x1b[0;93m{line}\x1b[m" for line in text.splitlines()),
    "colours without their escape": lambda text: f"[1;31m{text}[0m",
    "broken lines": lambda text: text.replace(" ", "\n      ", 7),
    "a long log": lambda text: "noise before\n" * 500 + text + "\nnoise after\n" * 500,
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "typographic quotes": lambda text: text.replace("'", "’").replace('"', "“"),
}


@ROWS
def test_a_text_is_read_however_it_was_copied(symptom: Symptom) -> None:
    for how, spell in SPELLINGS.items():
        assert symptom.id in ids_of(spell(text_of(symptom))), how


@ROWS
def test_a_symptom_names_a_check_that_there_is(symptom: Symptom) -> None:
    assert symptom.check is None or symptom.check in {check.id for check in CHECKS}


def test_a_cause_comes_before_what_follows_from_it() -> None:
    follows = text_of(next(one for one in catalogue() if one.id == "failed-create"))
    harmless = text_of(next(one for one in catalogue() if one.id == "device-discovery"))
    cause = "libcublasLt.so.13: cannot open shared object file"

    assert ids_of(f"{harmless}\n{follows}\n{cause}") == ["cublaslt13", "failed-create", "device-discovery"]


def test_nothing_is_seen_in_a_healthy_log() -> None:
    assert ids_of("2026-11-21 10:00:00 [I:onnxruntime:, inference_session.cc:2000] session ready") == []
    assert ids_of("libcublasLt.so.13 (libc6,x86-64) => /usr/local/cuda/lib64/libcublasLt.so.13") == []
    assert ids_of("") == []


def test_the_lines_that_show_it_are_given_back() -> None:
    found = matches("one\n\x1b[1;31mCUDA failure 100: no CUDA-capable\n  device is detected\x1b[m\nlast")[0]

    assert found.symptom.says is Says.CAUSE
    assert found.seen == ("CUDA failure 100: no CUDA-capable",)


def ask(text: str, *arguments: str, stdin: str | None = None) -> Result:
    """What `onnxsd doctor --symptom` answers."""
    return CliRunner().invoke(main, ["doctor", "--symptom", text, *arguments], input=stdin)


def test_the_cause_its_check_and_what_to_do_are_printed() -> None:
    result = ask("CUDA failure 222: the provided PTX was compiled with an unsupported toolchain")

    assert result.exit_code == 0
    assert "[cuda222]" in result.stdout
    assert "update the driver" in result.stdout
    assert "$ onnxsd doctor --check driver-too-old-for-ptx" in result.stdout
    assert "microsoft/onnxruntime#22767" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_a_command_is_printed_whole() -> None:
    printed = ask("libcublasLt.so.13: cannot open shared object file").stdout

    assert "    $ python -m pip install 'onnxruntime-gpu[cuda,cudnn]==VERSION'\n" in printed


def test_the_text_can_come_on_stdin() -> None:
    plain = json.loads(
        ask("-", "--json", stdin="CUDA failure 100: no CUDA-capable device is detected").stdout
    )

    assert plain["schema"] == 1
    assert plain["matches"][0]["id"] == "cuda100"
    assert plain["matches"][0]["seen"] == ["CUDA failure 100: no CUDA-capable device is detected"]


def test_a_text_that_shows_nothing_says_what_to_send() -> None:
    result = ask("it does not work")

    assert result.exit_code == 1
    assert "--save-facts" in result.stdout
    assert json.loads(ask("it does not work", "--json").stdout)["matches"] == []


def test_bytes_that_are_no_text_are_read_all_the_same() -> None:
    result = CliRunner().invoke(main, ["doctor", "--symptom", "-"], input=b"\xff\xfe CUDA failure 804 \x00")

    assert "[cuda804]" in result.stdout


def test_a_closed_stdin_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)

    with pytest.raises(UsageError, match="closed"):
        show_symptom("-", as_json=False)
