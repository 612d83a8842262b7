"""Prompts to token ids: equal to transformers' CLIPTokenizer, and clear about what it cannot read or keep."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from onnxsd.errors import BadInputError, ConfigurationError, UsageError
from onnxsd.prompt.tokenizer import Tokenizer
from onnxsd.prompt.vocabulary import END, START, WORDS, build_vocabulary, byte_symbols, write_tokenizer

FUZZ = settings(max_examples=150, derandomize=True, deadline=None, database=None)

PROMPTS = (
    "",
    " ",
    "a photo of an astronaut riding a horse",
    "  leading,   repeated\t\ttabs\nand\r\nnewlines  ",
    "A LARGE Red CIRCLE",
    "it's the king's cat, they're don't we'll I'd I'm you've 'S 'T ’s",
    "caf\u00e9 cafe\u0301 \ufb01sh stra\u00dfe \u1e9e \u0130stanbul Σίσυφος",
    "1234567890 3.14 ½ ² ١٢٣ 8k 4K",
    "<b>bold</b> a</w> </w> <|x|> <lora:thing:0.8>",
    "a <|endoftext|> b<|startoftext|>c <|EndOfText|> <|endoftext <| endoftext |>",
    "hello!!! wow! !a ! \uff01",
    "(masterpiece:1.2), [blurry], {low|high}, a_b-c--d...",
    "中文 日本語 한국어 \u1112\u1161\u11ab ไทย नमस्ते العربية עברית Русский ελληνικά",
    "😀 👨\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇩🇪 🤷🏽 ☺️",
    "zero\u200bwidth \u200d\u200c\ufeff no\u00a0break \u3000wide \u2028line \u202eright",
    "\x00null\x00 \x01\x1b[31m \x1c\x1d\x1e\x1f \x7f \x85 \ufffd \U0010ffff \U000e0001",
    "supercalifragilistic" * 30,
    "z" * 1000,
    "😀" * 40,
    "word " * 1000,
)
ODDITIES = (
    "'s",
    "'LL",
    "<|endoftext|>",
    "<|ENDOFTEXT|>",
    "!",
    "e\u0301",
    "\u200b",
    "\t\n",
    "  ",
    "👩\u200d🚀",
    "</w>",
    "½",
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.one_of(st.sampled_from([*ODDITIES, *WORDS.split()[:60]]), st.text(max_size=4)), max_size=120
    ).map("".join),
    st.lists(st.sampled_from([*ODDITIES, *WORDS.split()]), max_size=120).map(" ".join),
)
LENGTHS = (77, 2, 3, 9, 231)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer folder that pads with "!", as SDXL's second does."""
    return _folder(tmp_path / "tokenizer")


def _folder(folder: Path, *, vocab_size: int = 1000, pad_token: str = "!") -> Path:
    write_tokenizer(folder, vocab_size=vocab_size, pad_token=pad_token)
    return folder


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**_json(path), **changes}), encoding="utf-8")


# What transformers 5 does is the standard, in both forms of the folder.


@pytest.fixture(scope="module", params=[(1000, "!"), (1000, END), (514, END), (49408, "!")], ids=str)
def forms(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Any, Tokenizer]]:
    """Pairs of (transformers' tokenizer, ours) of one folder in both forms, tokenizer.json second."""
    from transformers import CLIPTokenizer

    vocab_size, pad_token = request.param
    plain = _folder(tmp_path_factory.mktemp("plain"), vocab_size=vocab_size, pad_token=pad_token)
    saved = tmp_path_factory.mktemp("saved")
    CLIPTokenizer.from_pretrained(plain).save_pretrained(saved)
    assert (saved / "tokenizer.json").exists()
    assert not (saved / "vocab.json").exists()
    return [(CLIPTokenizer.from_pretrained(path), Tokenizer.from_folder(path)) for path in (plain, saved)]


def _assert_equal(
    reference: Any, ours: Tokenizer, prompts: tuple[str, ...], lengths: tuple[int, ...]
) -> None:
    for length in lengths:
        expected = reference(
            list(prompts), padding="max_length", max_length=length, truncation=True
        ).input_ids
        found = ours.encode_batch(prompts, length)
        for prompt, ids, tokens in zip(prompts, expected, found, strict=True):
            assert tokens.ids == tuple(ids), prompt


@pytest.mark.reference
def test_equal_on_prompts_that_go_wrong_elsewhere(forms: list[tuple[Any, Tokenizer]]) -> None:
    for reference, ours in forms:
        assert (ours.pad_id, ours.max_length) == (reference.pad_token_id, reference.model_max_length)
        _assert_equal(reference, ours, PROMPTS, LENGTHS)


@pytest.mark.reference
def test_equal_on_any_text(forms: list[tuple[Any, Tokenizer]]) -> None:
    @FUZZ
    @given(text=TEXTS, length=st.sampled_from(LENGTHS))
    def check(text: str, length: int) -> None:
        for reference, ours in forms:
            _assert_equal(reference, ours, (text,), (length,))

    check()


def _without_configuration(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / "special_tokens_map.json").unlink()


def _map_overrides_configuration(folder: Path) -> None:
    """As SD 2.1 has it: the map says "!", the configuration `<|endoftext|>`."""
    _edit(folder / "tokenizer_config.json", pad_token=END)


def _plain_texts(folder: Path) -> None:
    (folder / "special_tokens_map.json").unlink()
    _edit(folder / "tokenizer_config.json", bos_token=START, eos_token=END, unk_token=END, pad_token=END)


def _pad_with_flags(folder: Path) -> None:
    pad = {"content": "!", "lstrip": True, "normalized": False, "rstrip": True, "single_word": False}
    _edit(folder / "special_tokens_map.json", pad_token=pad)


def _textual_inversion(folder: Path) -> None:
    (folder / "added_tokens.json").write_text(
        json.dumps({"<cat-toy>": 1000, "Sks": 1001, "a hat": 1002}), encoding="utf-8"
    )


def _decoder_speaks_alone(folder: Path) -> None:
    """transformers 4 wrote this; special_tokens_map.json is then not read."""
    flags = {"lstrip": False, "rstrip": False, "single_word": False}
    decoder = {
        "0": {"content": "!", **flags, "normalized": False, "special": True},
        "998": {"content": START, **flags, "normalized": True, "special": True},
        "999": {"content": END, **flags, "normalized": False, "special": True},
        "1000": {"content": "<cat-toy>", **flags, "normalized": True, "special": False},
    }
    _edit(folder / "tokenizer_config.json", added_tokens_decoder=decoder)
    _edit(folder / "special_tokens_map.json", pad_token=END)


def _extra_special_tokens(folder: Path) -> None:
    _edit(folder / "tokenizer_config.json", additional_special_tokens=["circle</w>", "a"])


def _special_tokens_split(folder: Path) -> None:
    _edit(folder / "tokenizer_config.json", split_special_tokens=True)


CONFIGURATIONS = (
    _without_configuration,
    _map_overrides_configuration,
    _plain_texts,
    _pad_with_flags,
    _textual_inversion,
    _decoder_speaks_alone,
    _extra_special_tokens,
    _special_tokens_split,
)


@pytest.mark.reference
@pytest.mark.parametrize("configure", CONFIGURATIONS)
def test_equal_however_the_folder_is_configured(
    folder: Path, tmp_path: Path, configure: Callable[[Path], None]
) -> None:
    from transformers import CLIPTokenizer

    configure(folder)
    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    prompts = (*PROMPTS, "a <cat-toy> A \t\u3000hat a hat SKS sks <Cat-Toy>circle</w> a!b ! c", " x ! y")
    for path in (folder, tmp_path / "saved"):
        reference, ours = CLIPTokenizer.from_pretrained(path), Tokenizer.from_folder(path)

        assert ours.pad_id == reference.pad_token_id
        _assert_equal(reference, ours, prompts, (77, 9))


# What a prompt becomes.


@pytest.mark.parametrize("pad_token", ["!", END])
def test_empty_prompt_is_start_end_and_padding(tmp_path: Path, pad_token: str) -> None:
    tokenizer = Tokenizer.from_folder(_folder(tmp_path, pad_token=pad_token))
    pad = 0 if pad_token == "!" else 999

    tokens = tokenizer.encode("")

    assert tokens.ids == (998, 999, *[pad] * 75)
    assert (tokens.end_position, tokens.truncated, tokens.warning) == (1, None, None)


def test_a_batch_is_its_prompts_one_by_one(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)

    assert tokenizer.encode_batch(["a cat", ""]) == (tokenizer.encode("a cat"), tokenizer.encode(""))
    with pytest.raises(UsageError, match="one prompt"):
        tokenizer.encode_batch("a cat")


def test_a_prompt_that_just_fits_is_whole_and_one_more_word_is_cut(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)

    whole, cut = tokenizer.encode("a " * 75), tokenizer.encode("a " * 75 + "\n B\u00c9 ")

    assert whole.truncated is None
    assert (cut.ids, cut.end_position) == (whole.ids, 76)
    assert cut.truncated == "B\u00c9 "
    assert cut.warning == "the prompt is longer than 77 tokens; cut: “B\u00c9”"


def test_a_thousand_tokens_are_kept_and_cut_word_by_word(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(_folder(tmp_path, vocab_size=49408))
    words = (WORDS.split() * 4)[:1000]  # each is one token here

    tokens = tokenizer.encode("  ".join(words))

    assert tokens.truncated is not None
    assert tokens.truncated.split() == words[75:]
    assert tokens.ids == tokenizer.encode("  ".join(words[:75])).ids


def test_a_long_word_is_cut_within(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    prompt = "😀 q\u0301" + "q7" * 500

    tokens = tokenizer.encode(prompt, 12)  # the emoji's 4 bytes, q, the accent's 2 bytes, q, 7 and q

    assert tokens.truncated == prompt.removeprefix("😀 q\u0301q7q")


@FUZZ
@given(text=TEXTS)
def test_the_cut_begins_at_the_first_token_that_is_left_out(text: str) -> None:
    tokenizer = _small_tokenizer()
    whole = tokenizer.encode(text, 10_000)
    assert whole.truncated is None
    rest = tokenizer.encode(text, 2).truncated or ""
    # Only blanks are no tokens, so all else is cut where there is room for none.
    assert text.endswith(rest)
    assert not text.removesuffix(rest).strip()
    for length in range(3, 12):
        tokens = tokenizer.encode(text, length)
        shared = length if tokens.truncated is None else length - 1
        assert tokens.ids[:shared] == whole.ids[:shared]
        assert tokens.truncated is None or tokens.ids[-1] == tokenizer.end_id
        assert tokens.truncated != ""
        assert rest.endswith(tokens.truncated or "")
        rest = tokens.truncated or ""


@cache
def _small_tokenizer() -> Tokenizer:
    with TemporaryDirectory() as folder:
        return Tokenizer.from_folder(_folder(Path(folder)))


def test_markers_in_the_prompt_end_the_text_early(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)

    tokens = tokenizer.encode("a <|endoftext|> cat")

    assert tokens.ids[tokens.end_position] == 999
    assert tokens.end_position == 2


def test_null_bytes_are_tokens(folder: Path) -> None:
    tokens = Tokenizer.from_folder(folder).encode("a\x00b")

    assert tokens.ids[:5] == (998, 320, 256 + byte_symbols().index("\u0100"), 321, 999)


@pytest.mark.parametrize("prompt", ["a \ud800 cat", "\udfff", "\ud83d\ude00"])
def test_half_of_a_surrogate_pair_is_refused(folder: Path, prompt: str) -> None:
    with pytest.raises(BadInputError, match="half of a surrogate pair"):
        Tokenizer.from_folder(folder).encode(prompt)


def test_fewer_than_two_tokens_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="asked for 1 tokens"):
        Tokenizer.from_folder(folder).encode("a cat", 1)


# The configuration's own length.


@pytest.mark.parametrize(("stated", "length"), [(77, 77), (64, 64), (10**30, 77), (1e30, 77), (None, 77)])
def test_length_is_the_configurations(folder: Path, stated: object, length: int) -> None:
    _edit(folder / "tokenizer_config.json", model_max_length=stated)

    tokenizer = Tokenizer.from_folder(folder)

    assert tokenizer.max_length == length
    assert len(tokenizer.encode("a cat").ids) == length


# Folders that cannot be used.


def _serialized(folder: Path) -> None:
    """Turn the folder into its other form."""
    vocabulary = _json(folder / "vocab.json")
    merges = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    model = {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocabulary, "merges": merges}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": []}), encoding="utf-8")
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()


def test_both_forms_of_a_folder_are_one_tokenizer(folder: Path) -> None:
    plain = Tokenizer.from_folder(folder).encode_batch(PROMPTS)

    _serialized(folder)

    assert Tokenizer.from_folder(folder).encode_batch(PROMPTS) == plain


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"absent.*not a folder.*copy the checkpoint's tokenizer folder"):
        Tokenizer.from_folder(tmp_path / "absent")


def test_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"vocab\.json, which is not there.*copy.*merges\.txt"):
        Tokenizer.from_folder(tmp_path)


def test_folder_without_merges(folder: Path) -> None:
    (folder / "merges.txt").unlink()

    with pytest.raises(BadInputError, match=r"merges\.txt, which is not there"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize(
    "name",
    ["vocab.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
)
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is not JSON"),
        (b'{"!": 0,', "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b'{"\\ud800": 3}', "is not JSON"),
        (b"\xff\xfe{}", "is not UTF-8"),
        (b"[]", "holds a JSON list"),
    ],
    ids=["empty", "cut", "deep", "surrogate", "bytes", "list"],
)
def test_damaged_json(folder: Path, name: str, content: bytes, found: str) -> None:
    (folder / name).write_bytes(content)

    with pytest.raises(BadInputError, match=rf"{name} {found}"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("vocabulary", "found"),
    [
        ({}, "holds no vocabulary"),
        ({"!": "0"}, "the id '0'"),
        ({"!": -1}, "the id -1"),
        ({"!": True}, "the id True"),
        ({"!": 0, "a": 0}, "the same id"),
    ],
)
def test_vocabulary_that_gives_no_ids(folder: Path, vocabulary: dict[str, object], found: str) -> None:
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")

    with pytest.raises(BadInputError, match=rf"vocab\.json.* {found}"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a", r"merges\.txt, line 2: .*\['a'\]"),
        ("a b c", r"merges\.txt, line 2: .*\['a', 'b', 'c'\]"),
        ("a ", r"merges\.txt, line 2: "),
        ("", r"merges\.txt, line 2: "),
        ("# q", r"merges\.txt merges '#' and 'q', .*no token '#q'"),
        ("a 王</w>", r"merges\.txt merges 'a' and '王</w>', .*no token '王</w>'"),
    ],
)
def test_damaged_merges(folder: Path, line: str, found: str) -> None:
    path = folder / "merges.txt"
    version, rest = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text(f"{version}\n{line}\n{rest}", encoding="utf-8")

    with pytest.raises(BadInputError, match=found):
        Tokenizer.from_folder(folder)


def test_merges_that_are_cut_short(folder: Path) -> None:
    path = folder / "merges.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:201]), encoding="utf-8")

    with pytest.raises(BadInputError, match=r"merges\.txt has 200 merges that make none of 288 tokens"):
        Tokenizer.from_folder(folder)


def test_merges_with_windows_line_ends(folder: Path) -> None:
    plain = Tokenizer.from_folder(folder).encode_batch(PROMPTS)
    path = folder / "merges.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    assert Tokenizer.from_folder(folder).encode_batch(PROMPTS) == plain


@pytest.mark.parametrize(
    ("model", "error", "found"),
    [
        ({"type": "Unigram", "vocab": []}, ConfigurationError, "holds a Unigram model"),
        ({"type": "BPE", "vocab": {}, "merges": []}, ConfigurationError, "end_of_word_suffix None"),
        (None, BadInputError, "has no model"),
        ({"merges": [], "vocab": {}, "end_of_word_suffix": "</w>"}, BadInputError, "holds no vocabulary"),
        ({"merges": {}, "vocab": {"a": 1}, "end_of_word_suffix": "</w>"}, BadInputError, "no list of merges"),
        (
            {"merges": [3], "vocab": {"a": 1}, "end_of_word_suffix": "</w>"},
            BadInputError,
            "merge 1: .*found 3",
        ),
    ],
)
def test_tokenizer_json_of_another_kind(
    folder: Path, model: object, error: type[Exception], found: str
) -> None:
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}), encoding="utf-8")

    with pytest.raises(error, match=rf"tokenizer\.json.* {found}"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"pad_token": "<pad>"}, r"vocab\.json has no token '<pad>'"),
        ({"pad_token": None}, "pad_token as None"),
        ({"eos_token": {"lstrip": False}}, "eos_token as"),
        ({"eos_token": ""}, "eos_token as ''"),
        ({"extra_special_tokens": 3}, "extra special tokens as 3"),
        ({"added_tokens_decoder": ["<pad>"]}, "maps no ids"),
        ({"added_tokens_decoder": {"0": "!"}}, "added token 0 as '!'"),
        ({"added_tokens_decoder": {"5000": {"content": "<pad>"}}}, "should have the id 5000, but gets 1000"),
        ({"model_max_length": "77"}, "model_max_length '77'"),
        ({"model_max_length": float("nan")}, "model_max_length nan"),
        ({"padding_side": "left"}, r"padding_side in tokenizer_config\.json is 'left'"),
        ({"truncation_side": "left"}, "truncation_side .* is 'left'"),
    ],
)
def test_configuration_that_cannot_hold(folder: Path, changes: dict[str, object], found: str) -> None:
    (folder / "special_tokens_map.json").unlink()
    _edit(folder / "tokenizer_config.json", **changes)

    with pytest.raises(BadInputError, match=found):
        Tokenizer.from_folder(folder)


def test_padding_on_the_left_in_tokenizer_json(folder: Path) -> None:
    _serialized(folder)
    _edit(folder / "tokenizer.json", padding={"direction": "Left"})

    with pytest.raises(ConfigurationError, match=r"padding in tokenizer\.json is 'Left'"):
        Tokenizer.from_folder(folder)


def test_added_tokens_without_an_id(folder: Path) -> None:
    (folder / "added_tokens.json").write_text('{"<cat-toy>": "1000"}', encoding="utf-8")

    with pytest.raises(BadInputError, match=r"added_tokens\.json gives '<cat-toy>' the id '1000'"):
        Tokenizer.from_folder(folder)


# The vocabulary of random checkpoints.


@pytest.mark.parametrize("vocab_size", [514, 515, 1000, 49408])
def test_vocabulary_is_in_clips_order_with_the_end_of_text_last(vocab_size: int) -> None:
    ids, merges = build_vocabulary(vocab_size)

    tokens = list(ids)
    assert list(ids.values()) == list(range(len(ids)))
    assert len(ids) == 514 + len(merges) <= vocab_size
    assert tokens[:3] == ["!", '"', "#"]
    assert [token.removesuffix("</w>") for token in tokens[256:512]] == tokens[:256]
    assert tokens[512:-2] == [left + right for left, right in merges]
    assert tokens[-2:] == [START, END]
    assert build_vocabulary(vocab_size) == (ids, merges)


def test_the_most_frequent_pair_is_merged_first() -> None:
    pairs = Counter(pair for word in set(WORDS.split()) for pair in pairwise([*word[:-1], f"{word[-1]}</w>"]))

    _, merges = build_vocabulary(515)

    assert [pairs[pair] for pair in merges] == [max(pairs.values())]


def test_bytes_have_the_symbols_that_the_library_gives_them() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    symbols = byte_symbols()

    assert sorted(symbols) == sorted(ByteLevel.alphabet())
    assert symbols == [*sorted(symbol for symbol in symbols if ord(symbol) < 256), *symbols[188:]]
    assert symbols[188:] == [chr(code) for code in range(0x100, 0x144)]


def test_each_word_is_one_token_where_there_is_room(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(_folder(tmp_path, vocab_size=49408))

    for word in WORDS.split():
        assert tokenizer.encode(word).end_position == 2, word


def test_a_vocabulary_smaller_than_the_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"asked for 513 tokens.* need 514"):
        write_tokenizer(tmp_path, vocab_size=513, pad_token=END)


def test_padding_that_the_vocabulary_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asked to pad with '<pad>'"):
        write_tokenizer(tmp_path, vocab_size=1000, pad_token="<pad>")

    assert not list(tmp_path.iterdir())


def test_the_written_length_is_the_tokenizers(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, vocab_size=600, pad_token=END, max_length=16)

    tokenizer = Tokenizer.from_folder(tmp_path)

    assert (tokenizer.max_length, tokenizer.vocab_size) == (16, 600)
