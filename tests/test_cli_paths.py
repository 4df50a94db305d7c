"""What the command reads and writes: nothing is read and written, names are those expected."""

import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from colorquant_nn.cli import main, paths
from colorquant_nn.cli.options import boundary, print_error, shown
from tests.helpers import check_error, contents, names, photo

posix = pytest.mark.skipif(os.name != "posix", reason="links and pipes are those of POSIX")
FORCE = "--force"


@pytest.fixture
def quantize(run):
    """Quantize to few colours, which is fast."""
    return lambda *arguments: run("quantize", *arguments, "-k", 4)


def save(*files: str) -> None:
    """A picture under each name."""
    for seed, name in enumerate(files):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(seed)[:8, :8]).save(name)


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What is read is never written


@posix
@pytest.mark.parametrize("force", [[], [FORCE]])
@pytest.mark.parametrize(
    "arguments",
    [
        ["a.png", "a-quantized.png"],
        ["a.png", "./a-quantized.png"],
        ["a.png", "y/../a-quantized.png"],
        ["a.png", "y/a.png", "-o", "y"],
        ["a.png", "y/a.png", "-o", "link"],
        ["y", "-o", "y"],
        ["y", "-o", "link"],
        ["a.png", "-o", "a.png"],
        ["a.png", "-o", "y/../a.png"],
        ["a.png", "-o", "soft.png"],
        ["a.png", "-o", "hard.png"],
        ["soft.png", "-o", "a.png"],
        ["a.png", "-o", "."],
        ["a.png", "a-compare.png", "--suffix=-x", "--compare", "."],
        ["a.png", "--suffix=-x", "--compare", "hard.png"],
        ["a.png", "-o", "o.png", "--palette", "p.png", "--compare", "p.png"],
        ["a.png", "-o", "p.png", "--palette", "p.png"],
        ["a.png", "-o", "y/../p.png", "--palette", "p.png"],
        ["a.png", "-o", "a.png", "--palette", "a.png"],
    ],
)
def test_no_input_is_ever_replaced(bare, run, arguments, force):
    save("a.png", "a-quantized.png", "a-compare.png", "y/a.png", "p.png")
    Path("link").symlink_to("y")
    Path("soft.png").symlink_to("a.png")
    os.link("a.png", "hard.png")
    before = contents(bare)
    code, _, err = run("quantize", *arguments, *force)
    assert code in (1, 2)
    assert "is an input, and inputs are never replaced" in err
    after = contents(bare)
    assert {name: after[name] for name in before} == before
    assert Path("soft.png").is_symlink()


@posix
@pytest.mark.parametrize(
    "arguments",
    [
        ["palette", "a.png", "-o", "a.png"],
        ["palette", "a.png", "-o", "hard.png"],
        ["palette", "a.png", "y", "--plot", "y/b.png"],
        ["palette", "y", "-o", "soft.png"],
        ["compare", "a.png", "y/b.png", "-o", "a.png"],
        ["compare", "a.png", "y/b.png", "-o", "soft.png"],
    ],
)
def test_no_input_of_the_other_commands_is_replaced(bare, run, arguments):
    save("a.png", "y/b.png")
    Path("soft.png").symlink_to("y/b.png")
    os.link("a.png", "hard.png")
    before = contents(bare)
    check_error(run(*arguments, FORCE), "is an input, and inputs are never replaced")
    assert contents(bare) == before


def test_standard_input_is_an_input(bare, quantize, monkeypatch):
    save("a.png")
    before = contents(bare)
    with open("a.png") as file:
        monkeypatch.setattr(sys, "stdin", file)
        check_error(quantize("-", "-o", "a.png", FORCE), "a.png: is an input")
    assert contents(bare) == before


@posix
def test_standard_output_may_be_a_file_but_no_input_and_no_other_result(bare, run, monkeypatch):
    save("a.png", "c.png", "p.png", "y/b.png")
    before = contents(bare)
    for name, inputs, reason in (
        ("a.png", ["a.png"], "-: standard output is an input"),
        ("p.png", ["a.png", "--palette", "p.png"], "-: standard output is an input"),
        ("c.png", ["a.png", "--compare", "c.png"], "c.png: expected different files"),
    ):
        with open(name, "a") as file, monkeypatch.context() as context:
            context.setattr(sys, "stdout", file)
            check_error(run("quantize", *inputs, "-o", "-", FORCE), reason)
    assert contents(bare) == before
    with open("new.png", "w") as file, monkeypatch.context() as context:
        context.setattr(sys, "stdout", file)
        assert run("quantize", "a.png", "-o", "-", "-k", 4)[0] == 0
    with Image.open("new.png") as image:
        assert image.size == (8, 8)


@posix
@pytest.mark.parametrize(
    "arguments",
    [
        ["quantize", "a.png", "-o", "o.png", "--compare", "o.png"],
        ["quantize", "a.png", "-o", "o.png", "--compare", "s.png"],
        ["quantize", "a.png", "-o", "o.png", "--compare", "x/../o.png"],
        ["quantize", "a.png", "-o", "o.png", "--compare", "O.png"],
        ["palette", "a.png", "-o", "p.png", "--plot", "p.png"],
        ["palette", "a.png", "-o", "p.png", "--plot", "x/../p.png"],
        ["palette", "a.png", "-o", "o.png", "--plot", "s.png"],
    ],
)
def test_two_results_are_two_files(bare, run, arguments):
    save("a.png")
    Path("x").mkdir()
    Path("s.png").symlink_to("o.png")
    check_error(run(*arguments, FORCE), "expected different files")
    assert names(bare) == {"a.png"}


@posix
def test_results_of_two_inputs_are_two_files(bare, quantize):
    save("one/b.png", "two/b.png", "a.png", "a.bmp")
    Path("to").mkdir()
    Path("to/b.png").symlink_to("c.png")
    code, out, err = quantize("one/b.png", "two/b.png", "-o", "to", FORCE)
    assert code == 1
    assert "two/b.png: would replace to/b.png, the result of one/b.png" in err
    code, out, err = quantize("a.png", "a.bmp")
    assert (code, len(out.splitlines())) == (1, 2)
    assert "a.bmp: would replace a-quantized.png, the result of a.png" in err
    code, out, err = quantize("a.png", "a.bmp", "-f", "--suffix=-x", "--compare", "sides")
    assert (code, len(out.splitlines())) == (1, 2)


def test_capitals_matter_where_they_name_two_files(bare, quantize):
    save("a.png", "A.png")
    if len(names(bare)) == 2:
        assert quantize("a.png", "A.png")[0] == 0
        assert {"a-quantized.png", "A-quantized.png"} <= names(bare)


@posix
def test_one_file_under_two_names_is_seen_when_it_is_there(bare):
    """As where capitals make no difference, which a hard link stands for here."""
    save("a.png", "A.png")
    jobs, _ = paths.plan(["a.png", "A.png"], output(force=True))
    assert paths.target_for(jobs[0], 1, b"")[0] == jobs[0].target
    save(str(jobs[0].target))
    os.link(jobs[0].target, jobs[1].target)
    with pytest.raises(ValueError, match=r"A.png: would replace A-quantized.png, .* of a.png"):
        paths.target_for(jobs[1], 1, b"")


def output(file=None, picture=None, force=False, **more):
    return paths.Output(file, picture, False, force, **more)


# Names


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["a.jpg"], {"a-quantized.png"}),
        (["a.jpg", "--suffix", "-8"], {"a-8.png"}),
        (["a.jpg", "--suffix=.8"], {"a.8.png"}),
        (["a.jpg", "-o", "to/"], {"to/a.png"}),
        (["a.jpg", "-o", "to/new/"], {"to/new/a.png"}),
        (["a.jpg", "-o", "to/", "--suffix", "-8"], {"to/a-8.png"}),
        (["in.v1/b.c.png"], {"in.v1/b.c-quantized.png"}),
        (["a.jpg", "in.v1/b.c.png", "-o", "to"], {"to/a.png", "to/b.c.png"}),
        (["in.v1"], {"in.v1/b.c-quantized.png", "in.v1/deep/d-quantized.png"}),
        (["in.v1", "-o", "to"], {"to/b.c.png", "to/deep/d.png"}),
        (["in.v1", "a.jpg", "-o", "to"], {"to/b.c.png", "to/deep/d.png", "to/a.png"}),
        (["in.v1", "-o", "in.v1", "--suffix=-x"], {"in.v1/b.c-x.png", "in.v1/deep/d-x.png"}),
        (["in.v1", "-o", "in.v1/to"], {"in.v1/to/b.c.png", "in.v1/to/deep/d.png"}),
        (
            ["in.v1/", "-o", "to/", "--compare", "side"],
            {"to/b.c.png", "to/deep/d.png", "side/b.c-compare.png", "side/deep/d-compare.png"},
        ),
    ],
)
def test_names_of_results(bare, quantize, arguments, made):
    save("a.jpg", "in.v1/b.c.png", "in.v1/deep/d.bmp")
    before = names(bare)
    for _ in range(2):  # the second time results are in place, and are no inputs
        code, _, err = quantize(*arguments, FORCE)
        assert (code, err) == (0, "")
        assert names(bare) - before == made


def test_a_folder_onto_itself_says_what_to_do(bare, quantize):
    save("in/a.png")
    check_error(quantize("in", "-o", "in", FORCE), "in/a.png: is an input", "--suffix")


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif", "tiff"])
@pytest.mark.parametrize("into", [[], ["-o", "to/"]])
def test_animations_keep_their_format_and_stills_do_not(bare, quantize, suffix, into):
    frames = [Image.fromarray(photo(seed)[:8, :8]).quantize(9) for seed in range(2)]
    frames[0].save(f"film.{suffix}", save_all=True, append_images=frames[1:])
    frames[0].save(f"still.{suffix}")
    assert quantize(f"film.{suffix}", f"still.{suffix}", *into)[0] == 0
    place, end = ("to/", "") if into else ("", "-quantized")
    made = {f"{place}film{end}.{suffix}", f"{place}still{end}.png"}
    assert names(bare) == made | {f"film.{suffix}", f"still.{suffix}"}
    _, _, err = quantize(f"film.{suffix}", f"still.{suffix}", *into)
    assert err.count("exists; --force replaces it") == 2


def test_an_animation_does_not_replace_an_input(bare, quantize):
    frames = [Image.fromarray(photo(seed)[:8, :8]).quantize(9) for seed in range(2)]
    frames[0].save("film.gif", save_all=True, append_images=frames[1:])
    before = contents(bare)
    check_error(quantize("film.gif", "-o", ".", FORCE), "film.gif: is an input")
    assert contents(bare) == before


@posix
def test_what_a_folder_is_searched_for(bare, quantize):
    save("in/a.png", "in/.hidden.png", "in/.git/b.png", "in/old-quantized.png", "else/c.png")
    Path("in/notes.txt").write_text("no picture")
    os.mkfifo("in/pipe.png")
    Path("in/loop").symlink_to(".")
    Path("in/elsewhere").symlink_to("../else")
    Path("in/round.png").symlink_to("round.png")
    Path("in/nowhere.png").symlink_to("nothing")
    Path("in/linked.png").symlink_to("../else/c.png")
    before = names(bare)
    assert quantize("in", "-o", "to")[::2] == (0, "")
    assert names(bare) - before == {"to/a.png", "to/linked.png"}


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read anything")
def test_a_folder_that_cannot_be_read_stops_no_others(bare, quantize):
    save("in/a.png", "in/locked/b.png", "shut/c.png")
    os.chmod("in/locked", 0)
    os.chmod("shut", 0)
    try:
        code, _, err = quantize("in", "shut")
    finally:
        os.chmod("in/locked", 0o700)
        os.chmod("shut", 0o700)
    assert code == 1
    assert sorted(line.split(": ")[1] for line in err.splitlines()) == ["in/locked", "shut"]
    assert Path("in/a-quantized.png").exists()


def test_a_folder_that_cannot_be_listed_is_a_failure(bare, quantize, monkeypatch):
    save("in/a.png", "in/locked/b.png")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    check_error(quantize("in"), "in/locked: Permission denied", code=1)
    assert Path("in/a-quantized.png").exists()


# Outputs that cannot be


@posix
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["-o", "plain/"], ["plain/a.png", "expected a folder, got a file"]),
        (["-o", "plain/deep/"], ["expected a folder, got a file"]),
        (["-o", "plain/b.png"], ["expected a folder, got a file"]),
        (["-o", "round.png"], ["round.png", "symbolic links"]),
        (["-o", "round/"], ["round"]),
        (["-o", "round/b.png"], ["round"]),
        (["-o", "x" * 300 + ".png"], ["File name too long"]),
        (["-o", "none/b.png"], ["the folder", "none", "does not exist"]),
    ],
)
def test_outputs_that_cannot_be_written(bare, quantize, arguments, parts):
    save("a.png")
    Path("plain").write_text("a file")
    Path("round").symlink_to("round")
    Path("round.png").symlink_to("round.png")
    before = contents(bare)
    check_error(quantize("a.png", *arguments), *parts)
    check_error(quantize("a.png", *arguments, FORCE), *parts)
    assert contents(bare) == before


@posix
def test_a_loop_of_links_is_a_bad_input_like_others(bare, quantize):
    save("a.png")
    Path("round.png").symlink_to("round.png")
    check_error(quantize("round.png", "a.png"), "round.png: ", "symbolic links", code=1)
    assert Path("a-quantized.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["quantize", ""],
        ["quantize", "a.png", ""],
        ["quantize", "a.png", "-o", ""],
        ["quantize", "a.png", "--compare", ""],
        ["quantize", "a.png", "--palette", ""],
        ["palette", ""],
        ["palette", "a.png", "-o", ""],
        ["palette", "a.png", "--plot", ""],
        ["compare", "a.png", ""],
        ["compare", "", "a.png"],
        ["compare", "a.png", "a.png", "-o", ""],
    ],
)
def test_an_empty_name_is_an_error(bare, run, arguments):
    save("a.png")
    check_error(run(*arguments, FORCE), "expected a name, got an empty one")
    assert names(bare) == {"a.png"}


def test_no_folder_is_made_when_every_input_is_bad(bare, quantize):
    Path("text.png").write_text("hello")
    for inputs in (["text.png"], ["none.png"], ["text.png", "none.png"]):
        assert quantize(*inputs, "-o", "to/", "--compare", "side/")[0] == 2
        assert sorted(os.listdir()) == ["text.png"]


def test_the_order_of_other_programs_gets_a_hint(bare, quantize):
    save("a.png")
    check_error(quantize("a.png", "16"), "16: no such file", "-k 16", code=1)


# Pipes


def feed(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def piped(capsysbinary, *arguments: str) -> tuple[int, bytes, str]:
    """Exit code, bytes on stdout, text on stderr."""
    code = main([*arguments, "-k", "4"])
    captured = capsysbinary.readouterr()
    return code, captured.out, captured.err.decode()


@pytest.mark.parametrize(
    "arguments", [["-", "-o", "-"], ["-"], ["a.png", "-o", "-"], ["-", "-o", "-", "--json"]]
)
def test_a_picture_in_a_pipe(bare, monkeypatch, capsysbinary, arguments):
    save("a.png")
    feed(monkeypatch, Path("a.png").read_bytes())
    code, out, err = piped(capsysbinary, "quantize", *arguments)
    assert code == 0
    with Image.open(io.BytesIO(out)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "P", (8, 8))
    assert "PSNR" in err or '"psnr"' in err
    assert names(bare) == {"a.png"}


def test_quiet_pipes_say_nothing(bare, monkeypatch, capsysbinary):
    save("a.png")
    feed(monkeypatch, Path("a.png").read_bytes())
    code, out, err = piped(capsysbinary, "quantize", "-", "-q")
    assert (code, err) == (0, "")
    assert out.startswith(b"\x89PNG")


def test_an_animation_in_a_pipe(bare, monkeypatch, capsysbinary):
    frames = [Image.fromarray(photo(seed)[:8, :8]).quantize(9) for seed in range(2)]
    frames[0].save("film.gif", save_all=True, append_images=frames[1:])
    feed(monkeypatch, Path("film.gif").read_bytes())
    code, out, _ = piped(capsysbinary, "quantize", "-")
    assert code == 0
    with Image.open(io.BytesIO(out)) as image:
        assert (image.format, image.n_frames) == ("GIF", 2)


def test_standard_input_into_files(bare, quantize, monkeypatch):
    save("a.png")
    for arguments, made in ((["-o", "b.gif"], "b.gif"), (["-o", "to/"], "to/stdin.png")):
        feed(monkeypatch, Path("a.png").read_bytes())
        assert quantize("-", *arguments)[0] == 0
        assert Path(made).exists()


def test_standard_input_is_read_once_and_used_twice(bare, quantize, monkeypatch):
    save("a.png")
    feed(monkeypatch, Path("a.png").read_bytes())
    assert quantize("-", "a.png", "--shared-palette", "-o", "to/")[::2] == (0, "")
    assert Path("to/stdin.png").read_bytes() == Path("to/a.png").read_bytes()


def test_the_other_commands_read_pipes(bare, run, monkeypatch):
    save("a.png")
    feed(monkeypatch, Path("a.png").read_bytes())
    code, out, _ = run("palette", "-", "-k", 4)
    assert (code, len(out.split())) == (0, 4)
    feed(monkeypatch, Path("a.png").read_bytes())
    code, out, _ = run("compare", "-", "a.png")
    assert code == 0
    assert "no error" in out
    check_error(run("compare", "-", "-"), "-: standard input can be read only once")


def test_a_pipe_that_is_no_picture(bare, quantize, monkeypatch):
    for data, reason in (
        (b"", "standard input: the file is empty"),
        (b"hello", "standard input: not an image"),
    ):
        feed(monkeypatch, data)
        check_error(quantize("-"), reason)


@pytest.mark.parametrize("arguments", [["-"], ["a.png", "-o", "-"]])
def test_a_terminal_gets_no_picture(bare, quantize, monkeypatch, arguments):
    save("a.png")
    feed(monkeypatch, b"never read")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    code, out, err = quantize(*arguments)
    assert (code, out) == (2, "")
    assert "standard output is a terminal" in err


def test_several_pictures_do_not_go_into_one_pipe(bare, quantize):
    save("a.png", "in/b.png")
    for inputs in (["a.png", "in/b.png"], ["in"]):
        check_error(quantize(*inputs, "-o", "-"), "-o -: expected one input")


@posix
def test_a_file_called_dash(bare, run):
    save("a.png")
    Path("a.png").rename("-")
    code, out, _ = run("palette", "./-", "-k", 4)
    assert (code, len(out.split())) == (0, 4)


@posix
def test_a_named_pipe_is_read_once(bare, quantize):
    """Every time it is opened waits for another writer."""
    import threading

    save("a.png")
    data = Path("a.png").read_bytes()
    os.mkfifo("pipe.gif")
    writer = threading.Thread(target=Path("pipe.gif").write_bytes, args=(data,), daemon=True)
    writer.start()
    code, out, err = quantize("pipe.gif")
    assert (code, err) == (0, "")
    assert f"{len(data):,} -> " in out
    writer.join()
    assert Path("pipe-quantized.png").exists()


@posix
def test_devices_are_no_pictures(bare, quantize):
    check_error(quantize("/dev/zero", "-o", "a.png"), "/dev/zero", "got a device")


# One line for each input


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.png: no good"), "a.png: no good"),
        (ValueError("no good"), "a.png: no good"),
        (ValueError("xa.png: no good"), "a.png: xa.png: no good"),
        (ValueError("expected\n  something"), "a.png: expected something"),
        (MemoryError(), "a.png: not enough memory"),
        (RuntimeError("encoding error 5"), "a.png: RuntimeError: encoding error 5"),
        (KeyError("x"), "a.png: KeyError: 'x'"),
        (AssertionError(), "a.png: AssertionError"),
        (PermissionError(13, "Permission denied", "a.png"), "a.png: Permission denied"),
        (PermissionError(13, "Permission denied"), "a.png: Permission denied"),
    ],
)
def test_whatever_is_raised_is_one_line_that_names_the_input_once(capsys, error, line):
    with boundary("a.png") as outcome:
        raise error
    assert outcome.failures == 1
    assert capsys.readouterr().err == f"colorquant: {line}\n"


def test_what_succeeds_is_no_failure(capsys):
    with boundary("a.png") as outcome:
        pass
    assert outcome.failures == 0
    assert capsys.readouterr().err == ""


def test_interruptions_pass_the_boundary():
    with pytest.raises(KeyboardInterrupt), boundary("a.png"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("café 日本 🎨.png", "café 日本 🎨.png"),
        ("two  spaces\u202fPM.png", "two  spaces\u202fPM.png"),
        ("a\x1b[31m\x07.png", r"a\x1b[31m\x07.png"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("caf\udce9.png", r"caf\xe9.png"),
        ("\ud800", r"\ud800"),
        ("gnp.\u202ea", r"gnp.\u202ea"),
        ("\x9b31m", r"\x9b31m"),
    ],
)
def test_text_cannot_steer_a_terminal(text, seen):
    assert shown(text) == seen
    seen.encode()


def test_names_in_errors_are_escaped(capsys):
    with boundary("a\nb\x1b.png"):
        raise ValueError("a\nb\x1b.png: no good")
    print_error("\x1b[2J")
    expected = r"colorquant: a\nb\x1b.png: no good", r"colorquant: \x1b[2J"
    assert tuple(capsys.readouterr().err.splitlines()) == expected


@posix
@pytest.mark.parametrize("name", ["a\x1b[2J.png", "caf\udce9.png", "a\nb.png"])
def test_odd_names_are_no_obstacle(bare, run, name):
    save("a.png")
    try:
        Path("a.png").rename(name)
    except OSError:
        pytest.skip("the file system has no such names")
    text = str(Path(name).with_name("text" + name))
    Path(text).write_text("hello")
    code, out, err = run("quantize", name, text, "-k", 4)
    assert code == 1
    assert (len(out.splitlines()), len(err.splitlines())) == (2, 1)
    assert "\x1b" not in out + err
    assert Path(Path(name).stem + "-quantized.png").exists()
