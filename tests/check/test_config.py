"""Configuration, selection, suppression and baseline: what counts, and what is a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphopt.check import Level, State, registry
from graphopt.check import baseline as baselines
from graphopt.check.baseline import Baseline
from graphopt.check.codes import CODES, Entry, Status
from graphopt.check.config import Config, Options, find, parse_limit, read
from graphopt.check.session import Request, check, find_models, settings_for
from graphopt.cli.main import run
from graphopt.errors import UsageError
from tests.check.cases import raw, value
from tests.check.number_cases import two_convs
from tests.nets import Net


def with_batch_norm(count: int = 1, name: str = "") -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, 8, 8)
    for _ in range(count):
        x = net.op("Relu", net.bn(net.conv(x, 16, pad=1)))
    proto = net.model(x)
    for node in proto.graph.node:
        node.name = f"{name}{node.name}"
    return proto


def renamed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with another name for everything."""
    kept = {v.name for v in (*proto.graph.input, *proto.graph.output)}
    names: dict[str, str] = {}
    for node in proto.graph.node:
        node.name = f"renamed_{node.name}"
        for field in (node.input, node.output):
            field[:] = [n if n in kept else names.setdefault(n, f"other{len(names)}") for n in field]
    for tensor in proto.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    del proto.graph.value_info[:]
    return proto


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in ("models/a.onnx", "models/deep/b.onnx"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        onnx.save(with_batch_norm(), tmp_path / place)
    return tmp_path


def config(folder: Path, text: str, name: str = "graphopt.toml") -> Config:
    (folder / name).write_text(text)
    return read(folder / name)


def test_the_nearest_file_holds(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.graphopt.check]\nignore = ["GO1"]\n')
    (folder / "models" / "pyproject.toml").write_text("[project]\nname = 'other'\n")  # nothing of ours: looked over
    found = find(folder / "models" / "deep")
    assert found == folder / "pyproject.toml"
    assert found is not None
    assert read(found).options.ignore == ("GO1",)


def test_sections_hold_for_the_models_that_they_match(folder: Path) -> None:
    found = config(
        folder,
        '[check]\ntarget = "generic"\nlimits = { max-macs = 10, max-nodes = 3 }\n'
        '[check.model."models/*.onnx"]\nlimits = { max-macs = 20 }\n'
        '[check.model."models/**/b.onnx"]\ntarget = "ort-x86-avx2"\n',
    )
    a, b = (found.options_for(folder / place) for place in ("models/a.onnx", "models/deep/b.onnx"))
    assert (a.target, dict(a.limits)) == ("generic", {"max-macs": 20.0, "max-nodes": 3.0})
    assert (b.target, dict(b.limits)) == ("ort-x86-avx2", {"max-macs": 10.0, "max-nodes": 3.0})


def test_the_command_line_goes_first(folder: Path) -> None:
    found = config(folder, '[check]\nselect = ["GO1"]\nlimits = { max-macs = 10 }\n')
    request = Request([], Options(select=("GO2", "GO4"), limits={"max-nodes": 5.0}), found)
    settings = settings_for(folder / "models/a.onnx", request)
    assert {code[:3] for code in settings.codes} == {"GO2", "GO4"}
    assert settings.asked.limits == {"max-macs": 10.0, "max-nodes": 5.0}


WRONG = [
    ("[check]\nignroe = ['GO1']", "GO951", "ignore"),
    ("[check]\nignore = 'GO1'", "GO951", "list"),
    ("[check]\ntarget = 3", "GO951", "text"),
    ("[check]\nlimits = { max-mcas = 1 }", "GO951", "max-macs"),
    ("[check]\nlimits = { max-macs = -1 }", "GO951", "0 or more"),
    ("[check]\nlimits = { max-macs = true }", "GO951", "number"),
    ("[check.model]\nx = 1", "GO951", "table"),
    ("[check", "GO951", "TOML"),
    ("[check]\nlimits = { min-top1 = 99 }", "GO951", "share"),
    ("[other]", "GO951", "[check]"),
    ("[check]\n[chekc.limits]\nmax-macs = 1", "GO951", "[check]"),
]


@pytest.mark.parametrize(("text", "code", "words"), WRONG)
def test_a_wrong_key_is_named(folder: Path, text: str, code: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        config(folder, text)
    assert caught.value.diagnostic.code == code
    assert words in str(caught.value)


def test_patterns_are_expanded_once_and_sorted(folder: Path) -> None:
    pattern = str(folder / "models" / "**" / "*.onnx")
    found = find_models(Request([pattern, str(folder / "models" / "a.onnx")]))
    assert [path.name for path in found] == ["a.onnx", "b.onnx"]


def test_a_pattern_without_a_model_is_an_error(folder: Path) -> None:
    section = config(folder, '[check.model."modles/*.onnx"]\ntarget = "generic"\n')
    for request in (
        Request([str(folder / "models" / "*.onx")]),
        Request([str(folder / "models" / "a.onnx")], Options(), section),
        Request([], Options(), config(folder, '[check]\nmodels = ["nothing/*.onnx"]\n')),
        Request([]),
    ):
        with pytest.raises(UsageError) as caught:
            find_models(request)
        assert caught.value.diagnostic.code == "GO950"


def test_a_limit_that_needs_a_reference_is_not_dropped_in_silence(folder: Path) -> None:
    with pytest.raises(UsageError, match="--against"):
        settings_for(folder / "models/a.onnx", Request([], Options(limits=dict([parse_limit("min-sqnr-db=30")]))))


@pytest.mark.parametrize(
    ("select", "ignore", "expected"),
    [
        ((), ("GO1", "GO2", "GO3", "GO4", "GO5"), "GO0"),
        (("GO1",), (), "GO1"),
        (("GO10",), ("GO101",), "GO10"),
        (("all",), ("GO0", "GO2", "GO3", "GO4", "GO5"), "GO1"),
        (("unfolded-batch-norm",), (), "GO101"),
    ],
)
def test_selection(select: tuple[str, ...], ignore: tuple[str, ...], expected: str) -> None:
    found = registry.chosen(select, ignore)
    assert found
    assert all(code.startswith(expected) for code in found)
    assert not set(found) & {code for word in ignore for code in registry.matching(word)}


def test_the_more_precise_word_wins() -> None:
    assert registry.chosen(("GO101",), ("GO1",)) == ["GO101"]


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(UsageError, match="GO952"):
        registry.chosen(("GO777",), ())


def test_levels_can_be_changed(folder: Path) -> None:
    path = str(folder / "models" / "a.onnx")
    (checked,) = check(Request([path], Options(select=("GO101", "GO058"), warning=("GO101",), error=("GO058",))))
    assert {f.code: f.level for f in checked.findings} == {"GO101": Level.WARNING, "GO058": Level.ERROR}


def test_a_model_can_leave_out_findings(tmp_path: Path) -> None:
    proto = with_batch_norm(2)
    helper.set_model_props(proto, {"graphopt.ignore": "GO05"})
    first = next(node for node in proto.graph.node if node.op_type == "BatchNormalization")
    first.metadata_props.add(key="graphopt.ignore", value="unfolded-batch-norm")
    onnx.save(proto, tmp_path / "model.onnx")
    (checked,) = check(Request([str(tmp_path / "model.onnx")], Options(select=("GO058", "GO101"))))
    states = [(f.code, f.state) for f in checked.findings]
    assert states == [("GO058", State.SUPPRESSED), ("GO101", State.SUPPRESSED), ("GO101", State.NEW)]


def test_a_suppression_of_nothing_known_is_an_error(tmp_path: Path) -> None:
    proto = with_batch_norm()
    helper.set_model_props(proto, {"graphopt.ignore": "GO777"})
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="GO777"):
        check(Request([str(tmp_path / "model.onnx")]))


ONLY = Options(select=("GO101", "GO301", "GO303"))


def test_a_renaming_revives_nothing(tmp_path: Path) -> None:
    path, baseline = tmp_path / "model.onnx", tmp_path / "baseline.json"
    onnx.save(with_batch_norm(3), path)
    assert baselines.write(baseline, check(Request([str(path)], ONLY))) == 3
    onnx.save(renamed(with_batch_norm(3)), path)
    (checked,) = check(Request([str(path)], ONLY, Config(), baseline))
    assert [f.state for f in checked.findings] == [State.BASELINE] * 3
    assert not checked.failed


def test_a_renaming_revives_no_width(tmp_path: Path) -> None:
    path, baseline = tmp_path / "model.onnx", tmp_path / "baseline.json"
    onnx.save(two_convs(33), path)
    assert baselines.write(baseline, check(Request([str(path)], ONLY))) == 1
    onnx.save(renamed(two_convs(33)), path)
    assert not check(Request([str(path)], ONLY, Config(), baseline))[0].failed


def test_one_more_is_new(tmp_path: Path) -> None:
    path, baseline = tmp_path / "model.onnx", tmp_path / "baseline.json"
    onnx.save(with_batch_norm(5), path)
    baselines.write(baseline, check(Request([str(path)], ONLY)))
    onnx.save(with_batch_norm(6), path)  # five alike in the middle: they are counted, not only known
    (checked,) = check(Request([str(path)], ONLY, Config(), baseline))
    assert sum(f.state is State.NEW for f in checked.findings) == 1


def test_another_model_is_not_excused(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        onnx.save(with_batch_norm(), tmp_path / name)
    baselines.write(tmp_path / "baseline.json", check(Request([str(tmp_path / "a.onnx")], ONLY)))
    results = check(Request([str(tmp_path / "*.onnx")], ONLY, Config(), tmp_path / "baseline.json"))
    assert [checked.failed for checked in results] == [False, True]


def test_the_same_findings_give_the_same_bytes(tmp_path: Path) -> None:
    onnx.save(with_batch_norm(2), tmp_path / "a.onnx")
    for name in ("one.json", "two.json"):
        baselines.write(tmp_path / name, check(Request([str(tmp_path / "a.onnx")], ONLY)))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


ENDLESS = '{"schema": 1, "findings": [{"code": "GO101", "model": "a.onnx", "anchor": "0", "count": -1}]}'


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 9, "findings": []}', '{"schema": 1, "findings": [{"code": 3}]}', ENDLESS])
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "baseline.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        Baseline.read(tmp_path / "baseline.json")
    assert caught.value.diagnostic.code == "GO953"


def test_a_baseline_is_readable(tmp_path: Path) -> None:
    onnx.save(with_batch_norm(), tmp_path / "a.onnx")
    baselines.write(tmp_path / "b.json", check(Request([str(tmp_path / "a.onnx")], ONLY)))
    (entry,) = json.loads((tmp_path / "b.json").read_text())["findings"]
    assert {k: entry[k] for k in ("code", "model", "count")} == {"code": "GO101", "model": "a.onnx", "count": 1}


# -- names of files, and who wins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["models/a.onnx", "./models/a.onnx", "models/../models/*.onnx", "ABSOLUTE/models/*.onnx"])
def test_a_section_holds_however_its_pattern_is_written(folder: Path, pattern: str) -> None:
    found = config(folder, f'[check.model."{pattern.replace("ABSOLUTE", str(folder))}"]\nignore = ["GO1"]\n')
    assert found.options_for(folder / "models/a.onnx").ignore == ("GO1",)


def test_what_stands_for_more_in_a_pattern_may_be_in_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "run [1]"
    folder.mkdir()
    onnx.save(with_batch_norm(), folder / "net[2].onnx")
    found = config(folder, '[check]\nmodels = ["*.onnx"]\n[check.model."net[2].onnx"]\nignore = ["GO1"]\n')
    (path,) = find_models(Request([], Options(), found))
    assert found.options_for(path).ignore == ("GO1",)


def test_a_link_is_a_model_by_its_own_name(folder: Path) -> None:
    """Stores of large files link every model to a file that is named by its content."""
    (folder / "store").mkdir()
    linked = folder / "models" / "linked.onnx"
    for content in ("0123", "4567"):  # a new version of the model has the same findings
        onnx.save(with_batch_norm(), folder / "store" / content)
        linked.unlink(missing_ok=True)
        linked.symlink_to(folder / "store" / content)
        found = config(folder, '[check.model."models/linked.onnx"]\nselect = ["GO101"]\n')
        base = folder / "base.json"
        if content == "0123":
            baselines.write(base, check(Request([str(linked)], Options(), found)))
        (checked,) = check(Request([str(linked)], Options(), found, base))
        assert [(f.code, f.state) for f in checked.findings] == [("GO101", State.BASELINE)]


def test_a_baseline_holds_behind_a_linked_folder(folder: Path) -> None:
    (folder / "here").symlink_to(folder / "models")
    base = folder / "models" / "base.json"
    baselines.write(base, check(Request([str(folder / "models/a.onnx")], ONLY)))
    assert not check(Request([str(folder / "here/a.onnx")], ONLY, Config(), base))[0].failed


def test_a_link_to_nothing_is_a_finding_and_no_silence(folder: Path) -> None:
    (folder / "models" / "z.onnx").symlink_to(folder / "not there")
    results = check(Request([str(folder / "models" / "*.onnx")], ONLY))
    assert [[f.code for f in one.findings] for one in results] == [["GO101"], ["GO001"]]


def test_models_of_the_configuration_are_named_from_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "models")
    found = config(folder, '[check]\nmodels = ["models/**/*.onnx"]\n')
    assert [str(path) for path in find_models(Request([], Options(), found))] == ["a.onnx", "deep/b.onnx"]


LEVELS = [
    # configured, command line, the level of GO101
    (Options(error=("GO101",)), Options(warning=("GO101",)), Level.WARNING),  # the command line goes first
    (Options(warning=("GO101",)), Options(error=("GO1",)), Level.ERROR),
    (Options(), Options(error=("GO1",), warning=("GO101",)), Level.WARNING),  # the longer word wins
    (Options(), Options(error=("all",), warning=("GO1",)), Level.WARNING),
    (Options(), Options(error=("GO101",), warning=("GO101",)), Level.ERROR),
]


@pytest.mark.parametrize(("configured", "said", "level"), LEVELS)
def test_whose_level_wins(configured: Options, said: Options, level: Level) -> None:
    settings = settings_for(Path("model.onnx"), Request([], said, Config(options=configured)))
    assert settings.levels["GO101"] is level


def test_all_is_less_precise_than_the_beginning_of_a_code() -> None:
    assert not any(code.startswith("GO") for code in registry.chosen(("all",), ("GO",)))


def test_renaming_an_unread_initializer_revives_nothing(tmp_path: Path) -> None:
    path, baseline, only = tmp_path / "model.onnx", tmp_path / "baseline.json", Options(select=("GO113",))
    for name in ("left", "renamed"):
        proto = two_convs(32)
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), name))
        onnx.save(proto, path)
        if name == "left":
            assert baselines.write(baseline, check(Request([str(path)], only))) == 1
    assert not [f for f in check(Request([str(path)], only, Config(), baseline))[0].findings if f.state is State.NEW]


def test_a_node_of_a_branch_can_leave_out_findings(tmp_path: Path) -> None:
    bodies = [
        helper.make_graph([helper.make_node("Dropout", ["x", "r", "t"], [name])], "b", [], [value(name, 4)]) for name in ("p", "q")
    ]
    bodies[0].node[0].metadata_props.add(key="graphopt.ignore", value="GO110")
    weights = [numpy_helper.from_array(np.array(0.5, np.float32), "r"), numpy_helper.from_array(np.array(True), "t")]
    node = helper.make_node("If", ["c"], ["y"], then_branch=bodies[0], else_branch=bodies[1])
    proto = raw([node], [value("x", 4), value("c", kind=onnx.TensorProto.BOOL)], [value("y", 4)], weights)
    onnx.save(proto, tmp_path / "model.onnx")
    (checked,) = check(Request([str(tmp_path / "model.onnx")], Options(select=("GO110",))))
    assert sorted(f.state for f in checked.findings) == [State.NEW, State.SUPPRESSED]


def test_a_node_can_leave_out_what_the_structure_check_finds(tmp_path: Path) -> None:
    proto = raw(
        [helper.make_node("Neg", ["a"], ["y"], name="n"), helper.make_node("Relu", ["x"], ["a"])], [value("x", 1)], [value("y", 1)]
    )
    for ignored in (False, True):
        if ignored:
            proto.graph.node[0].metadata_props.add(key="graphopt.ignore", value="GO024")
        onnx.save(proto, tmp_path / "model.onnx")
        (checked,) = check(Request([str(tmp_path / "model.onnx")], Options(select=("GO024",))))
        assert [f.state for f in checked.findings] == [State.SUPPRESSED if ignored else State.NEW]


def test_a_rule_that_was_removed_names_its_successor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(CODES, "GO199", Entry("old-rule", Status.REMOVED, "use GO101"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="was removed") as caught:
        registry.chosen((), ("GO199",))
    assert caught.value.diagnostic.hint == "use GO101"
    assert run(["explain", "go199"]) == 2
    assert "use GO101" in capsys.readouterr().err
    assert "GO199" not in registry.chosen((), ())


def test_another_order_revives_nothing(tmp_path: Path) -> None:
    path, baseline = tmp_path / "model.onnx", tmp_path / "baseline.json"
    net = Net()
    x = net.input(1, 3, 8, 8)
    branches = [net.op(op, net.bn(net.conv(x, 16, pad=1))) for op in ("Relu", "Sigmoid")]
    proto = net.model(net.op("Concat", *branches, axis=1))
    onnx.save(proto, path)
    assert baselines.write(baseline, check(Request([str(path)], ONLY))) == 2
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes[3:6], *nodes[:3], *nodes[6:]])
    onnx.save(proto, path)
    assert not check(Request([str(path)], ONLY, Config(), baseline))[0].failed
