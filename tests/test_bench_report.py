"""What is computed from a report, and how it is saved, shown, drawn and written into a document."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from bench_cases import AGAIN, CASE, EAGER, MISSING, MODEL, OURS, REPORT
from click.testing import CliRunner, Result
from PIL import Image

from onnxsd.bench import chart, documents, figures
from onnxsd.bench.report import Case, CaseReport, load, save
from onnxsd.bench.roster import chosen
from onnxsd.bench.sections import preamble, sections
from onnxsd.cli import main
from onnxsd.errors import BadInputError, NotReadyError
from onnxsd.session import Provider


def run(*arguments: str | Path) -> Result:
    """What `onnxsd bench` with these arguments prints and exits with."""
    return CliRunner().invoke(main, ["bench", *map(str, arguments)], prog_name="onnxsd")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The report in a file."""
    path = tmp_path / "report.json"
    save(REPORT, path)
    return path


def rows(section: int = 0) -> dict[str, tuple[str, ...]]:
    """A table's rows by their names; of the time rows, the median's."""
    found: dict[str, tuple[str, ...]] = {}
    for name, *cells in sections(REPORT)[section].rows:
        found.setdefault(name.strip(), tuple(cells))
    return found


def test_a_report_comes_back_as_it_was_saved(saved: Path) -> None:
    assert load(saved) == REPORT


def test_saving_leaves_nothing_beside_the_report(saved: Path) -> None:
    save(REPORT, saved)

    assert [path.name for path in saved.parent.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("no JSON", "cannot be read"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1, "onnxsd": 3}', "onnxsd: expected str"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: str, fault: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(BadInputError, match=fault):
        load(path)


def test_medians_and_tails() -> None:
    assert figures.median((3.0, 1.0, 2.0)) == 2.0
    assert figures.median(()) is None
    assert figures.p95(tuple(float(n) for n in range(1, 101))) == 95.0
    assert figures.p95((1.0, 5.0)) == 5.0
    assert figures.p95(()) is None


@pytest.mark.parametrize(
    ("kind", "floor"),
    [
        ("unet", 13.522 / 770),
        ("vae", 10.47 / 770),
        ("image", (30 * 13.522 + 10.47) / 770),
    ],
)
def test_the_floor_is_the_arithmetic_at_the_ceilings_median_rate(kind: str, floor: float) -> None:
    assert figures.floor_s(kind, MODEL, CASE, REPORT.ceiling) == pytest.approx(floor)


def test_without_a_ceiling_or_a_workload_there_is_no_floor() -> None:
    assert figures.floor_s("unet", MODEL, CASE, None) is None
    assert figures.floor_s("unet", MODEL, Case(size_px=8, batch=1), REPORT.ceiling) is None


def test_speed_up_and_noise_are_ratios_of_medians() -> None:
    assert figures.faster(MODEL, CASE, "unet", "diffusers") == pytest.approx(0.0504 / 0.0315)
    assert figures.noise(MODEL, CASE, "unet") == pytest.approx(0.0)
    assert figures.faster(MODEL, CASE, "unet", "optimum") is None


def test_the_table_has_a_column_for_each_contender_and_the_figures_of_its_samples() -> None:
    (section,) = sections(REPORT)
    found = rows()

    assert section.columns == ("", "floor", "onnxsd", "onnxsd-again", "diffusers", "optimum")
    assert found["UNet step, ms"] == ("17.56", "31.50", "31.50", "50.40", "–")
    assert found["95 % within"] == ("", "40.00", "31.50", "51.00", "–")
    assert found["times the floor"] == ("1", "1.79", "1.79", "2.87", "–")
    assert found["onnxsd is faster, times"] == ("", "–", "1.000", "1.600", "–")
    assert found["30 steps, prompt to pixels, s"][1:3] == ("0.315", "0.315")
    assert found["process start to first image, s"] == ("", "5.00", "5.00", "5.00", "–")
    assert found["first image of this size, beyond a steady one, s"][1] == "0.04"  # 12 × 30 − 10 × 31.5 ms
    assert found["peak GPU memory, GB"][1] == "9.66"
    assert found["energy, J an image"][1] == "510"
    assert found["UNet, relative error to float32"][1] == "1.30e-03"
    assert found["two runs differ by"][1] == "0.00e+00"


def test_the_notes_tell_the_noise_and_who_is_missing() -> None:
    (section,) = sections(REPORT)

    assert "unet 0.0 %" in section.notes[0]
    assert section.notes[1] == "optimum: not installed: No module named 'optimum'"


def test_the_preamble_says_on_whose_kernels_onnxsd_ran() -> None:
    """So that one that fell back is not taken for what it was meant to be."""
    ours = dataclasses.replace(OURS, kernels="stock (libnvrtc is not installed)")
    stock = dataclasses.replace(OURS, name="onnxsd-stock", kernels="stock (they were asked for)")
    model = dataclasses.replace(MODEL, contenders=(ours, stock, EAGER))

    told = preamble(dataclasses.replace(REPORT, models=(model,)))
    assert (
        "Kernels: onnxsd: stock (libnvrtc is not installed); onnxsd-stock: stock (they were asked for)."
    ) in told
    assert not any(line.startswith("Kernels") for line in preamble(REPORT))


def test_own_and_stock_kernels_are_measured_side_by_side_on_cuda_alone() -> None:
    names = {
        provider: [one.name for one in chosen((), provider, long=False)]
        for provider in (Provider.CUDA, Provider.CPU)
    }

    assert names[Provider.CUDA][:3] == ["onnxsd", "onnxsd-stock", "onnxsd-again"]
    assert names[Provider.CPU] == ["onnxsd", "onnxsd-again", "diffusers"]
    assert [one.name for one in chosen(("onnxsd-stock",), Provider.CUDA, long=False)] == names[Provider.CUDA][
        :2
    ]


@pytest.mark.parametrize(
    ("contenders", "failed"),
    [
        ((OURS, MISSING), False),
        ((dataclasses.replace(OURS, failure="ended"), EAGER), True),
        ((dataclasses.replace(OURS, cases=(CaseReport(case=CASE, failure="no memory"),)),), True),
        ((AGAIN, EAGER), True),
    ],
)
def test_a_bench_failed_when_onnxsd_did(contenders: tuple[object, ...], failed: bool) -> None:
    model = dataclasses.replace(MODEL, contenders=contenders)  # type: ignore[arg-type]

    assert dataclasses.replace(REPORT, models=(model,)).failed is failed


def test_a_saved_report_is_shown_as_table_and_as_json(saved: Path) -> None:
    text, json = run("--from", saved), run("--from", saved, "--json")

    assert text.exit_code == json.exit_code == 0
    for word in ("NVIDIA H200", "770 TFLOP/s", "31.50", "1.600", "power limit 700 W", "24.6 s"):
        assert word in text.output
    assert json.output == saved.read_text(encoding="utf-8")


def test_the_chart_is_a_picture_with_a_panel_for_each_time(saved: Path, tmp_path: Path) -> None:
    done = run("--from", saved, "--chart", tmp_path / "chart.png")

    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "chart.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    red = (pixels == (0xD1, 0x49, 0x5B)).all(axis=2)  # onnxsd's bars
    assert pixels.shape[1] == 3 * chart.PANEL_WIDTH_IN * chart.DPI
    assert all(panel.mean() > 0.02 for panel in np.array_split(red, 3, axis=1))


def test_a_chart_of_nothing_or_of_an_unknown_format_is_refused(saved: Path, tmp_path: Path) -> None:
    nothing = dataclasses.replace(MODEL, contenders=(MISSING,))

    with pytest.raises(BadInputError, match="no contender was measured"):
        chart.draw(dataclasses.replace(REPORT, models=(nothing,)), tmp_path / "chart.png")
    with pytest.raises(BadInputError, match=r"chart\.xyz"):
        chart.draw(REPORT, tmp_path / "chart.xyz")


def test_without_matplotlib_a_chart_names_the_command(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)

    with pytest.raises(NotReadyError, match=r"pip install 'onnxsd\[bench\]'"):
        chart.require()
    assert run("--from", saved, "--chart", tmp_path / "chart.png").exit_code == 1


def test_the_marked_part_of_a_document_is_replaced_and_nothing_else(saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{documents.BEGIN}\nold\n{documents.END}\nafter\n", encoding="utf-8")

    for _ in range(2):  # twice is the same as once
        assert run("--from", saved, "--write-docs", page).exit_code == 0
    text = page.read_text(encoding="utf-8")

    assert text.startswith(f"before\n{documents.BEGIN}\n")
    assert text.endswith(f"{documents.END}\nafter\n")
    assert "old" not in text
    for line in (
        "onnxsd bench --random sdxl",
        "### sdxl-base-1.0, 1024², batch 1",
        "| UNet step, ms | 17.56 | 31.50 | 31.50 | 50.40 | – |",
        "| … times the floor | 1 | 1.79 | 1.79 | 2.87 | – |",
    ):
        assert line in text.splitlines()


def test_a_document_without_the_markers_is_refused_and_left_alone(saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{documents.END}\n{documents.BEGIN}\n", encoding="utf-8")
    done = run("--from", saved, "--write-docs", page)

    assert done.exit_code == 3
    assert "where the figures go" in done.output
    assert page.read_text(encoding="utf-8") == f"{documents.END}\n{documents.BEGIN}\n"


def test_several_reports_are_shown_one_after_another(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    save(dataclasses.replace(REPORT, models=(dataclasses.replace(MODEL, name="sd-1.5"),)), other)
    done = run("--from", saved, "--from", other)

    assert done.exit_code == 0
    assert done.output.index("sdxl-base-1.0, 1024²") < done.output.index("sd-1.5, 1024²")
    assert run("--from", saved, "--from", other, "--json").exit_code == 2


@pytest.mark.parametrize(
    "arguments", [("--model", "shapes"), ("--rounds", "5"), ("--in-turn",), ("--size", "512", "--batch", "1")]
)
def test_a_saved_report_is_not_measured_anew(arguments: tuple[str, ...], saved: Path) -> None:
    done = run("--from", saved, *arguments)
    options = ", ".join(word for word in arguments if word.startswith("--"))

    assert done.exit_code == 2
    assert f"--from shows what was measured (leave {options} out)" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--size", "512,x"),
        ("--batch", "0"),
        ("--python", "diffusers"),
        ("--model", "shapes", "--from", __file__),
        ("--contenders", "nobody", "--provider", "cpu"),
        ("--python", "nobody=python3", "--provider", "cpu"),
        ("--model", "shapes", "--random", "sdxl", "--export", "."),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
