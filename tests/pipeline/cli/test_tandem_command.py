"""The command `tandem` runs the others in any folder, with the user's `conf/` laid over the built-in one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start
from hydra import compose

from pipeline.cli.tandem import SUBCOMMANDS
from pipeline.config.checks.keys import options_of
from pipeline.config.experiment import register, typed
from pipeline.config.hydra_compat import compose_from
from pipeline.errors import UserError
from pipeline.shipped import CONF, STARTER, SWEEPS
from pipeline.storage.run_identity import ProcessIdentity
from tandem.experiment import compose as composed_experiment

ROOT = Path(__file__).resolve().parents[3]
MINE = "defaults:\n  - own\n  - _self_\ntorch: my_small_net:Net\n"


def tandem(folder, *arguments, core=True, **environment):
    """Run `tandem ARGUMENTS` in a folder."""
    return warm_start.run(
        [sys.executable, "-m", "tandem", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        core=core,
    )


@pytest.fixture
def own_conf(tmp_path, monkeypatch):
    """`conf/` of a user's working folder, with a model of its own and another default of a built-in one."""
    folder = tmp_path / "conf"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "mine.yaml").write_text(MINE)
    (folder / "model" / "mlp.yaml").write_text(
        "defaults:\n  - /schema/model/mlp@_here_\n\nhidden: [3]\n"
    )
    monkeypatch.chdir(tmp_path)
    return folder


def composed(*overrides):
    register()
    with compose_from(CONF):
        return typed(compose("config", list(overrides)))


def test_options_in_the_users_conf_are_found_and_win(own_conf):
    assert composed("model=mine").model.torch == "my_small_net:Net"
    assert composed("model=mlp").model.hidden == [3]
    assert composed("model=linear").model.name == "linear"
    assert {"mine", "mlp", "cnn"} <= set(options_of("model"))


def test_a_conf_of_another_program_is_left_out_and_named(own_conf):
    (own_conf / "config.yaml").write_text("defaults:\n  - model: mine\n")
    assert composed("model=mlp").model.hidden != [3]
    assert "mine" not in options_of("model")
    done = tandem(own_conf.parent, "run", "model=mine", "--cfg=job")
    assert done.returncode == 1
    assert "conf/ is left out: its config.yaml is another program's" in done.stderr
    assert "model=mine: must be one of " in done.stderr


def test_a_primary_config_of_the_users_own_takes_the_place_of_the_built_in_one(own_conf):
    text = (CONF / "config.yaml").read_text().replace("- dataset: digits", "- dataset: line")
    (own_conf / "config.yaml").write_text(text)
    assert composed().dataset.name == "line"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "defaults: [own, _self_]\ntorhc: a:b\n",
            r"model.torhc=\?\?\?: must be a key of model=own .*Did you mean model.torch\? "
            r"It is in conf/model/wrong.yaml\.",
        ),
        (
            "torch: a:b\n",
            r"conf/model/wrong.yaml: it is based on no option of model\. Begin it with .* defaults: \[",
        ),
        ("torch: [a\n", r"conf/model/wrong.yaml, line 2: it is no YAML: expected ',' or '\]'"),
        ("- a\n", r"conf/model/wrong.yaml: it holds a list\. Write keys: KEY: VALUE\."),
        ("defaults: [mlp, _self_]\nhidden: wide\n", r"model.hidden=wide: must be a list"),
    ],
)
def test_a_mistake_in_a_file_of_the_users_own_is_named_with_its_file(own_conf, content, message):
    (own_conf / "model" / "wrong.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        composed_experiment("model=wrong")


def test_a_key_that_a_preset_leaves_open_must_be_set(own_conf):
    (own_conf / "experiment").mkdir(exist_ok=True)
    text = "# @package _global_\ndefaults:\n  - override /model: mlp\n\nmodel:\n  weights: ???\n"
    (own_conf / "experiment" / "probe.yaml").write_text(text)
    (own_conf / "experiment" / "probed.yaml").write_text(
        "# @package _global_\ndefaults: [probe]\nmodel:\n  weights: there\n"
    )
    (own_conf / "model" / "tuned.yaml").write_text("defaults: [mlp, _self_]\nweights: ???\n")
    for chosen, file in (("experiment=probe", "experiment/probe"), ("model=tuned", "model/tuned")):
        message = (
            rf"model\.weights=\?\?\?: conf/{file}\.yaml leaves it open\. Set model\.weights=VALUE"
        )
        with pytest.raises(UserError, match=message):
            composed_experiment(chosen)
    for given in ("experiment=probe model.weights=a", "experiment=probed", "model=mlp"):
        composed_experiment(*given.split())
    done = tandem(
        own_conf.parent, "run", "-m", "experiment=probe", "seed=0,1", "sweep.dry_run=true"
    )
    assert (
        "model.weights=???: conf/experiment/probe.yaml leaves it open." in done.stderr + done.stdout
    )


def test_a_group_as_a_key_of_a_preset_is_named_with_its_place_in_the_defaults(own_conf):
    (own_conf / "experiment").mkdir(exist_ok=True)
    for name, value in (("chosen", "none"), ("several", "[csv, wandb]")):
        file = own_conf / "experiment" / f"{name}.yaml"
        file.write_text(f"# @package _global_\nlogger: {value}\n")
        with pytest.raises(UserError) as refused:
            composed_experiment(f"experiment={name}")
        words = f"{name}.yaml: it sets the group logger as a key. Put `- override /logger: {value}` into"
        assert words in str(refused.value)


def test_a_misspelt_option_of_the_users_own_is_suggested(own_conf):
    done = tandem(own_conf.parent, "run", "model=mne")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Did you mean model=mine?" in done.stderr
    assert "tandem run --help shows every key" in done.stderr


def test_its_own_model_is_imported_from_the_working_folder(own_conf):
    (own_conf.parent / "my_small_net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self, input_shape, outputs):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, outputs))\n"
    )
    small = ("name=first", "logger=none", "train.steps=2", "accelerator=cpu")
    done = tandem(own_conf.parent, "run", "model=mine", "train.stop_after=1", *small, core=False)
    assert done.returncode == 130, done.stderr
    assert "resume with: tandem run resume=" in done.stdout + done.stderr
    assert (own_conf.parent / "outputs" / "first" / "result.json").exists()


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_a_line_and_its_own_help(tmp_path, name):
    assert f"\n  {name} " in tandem(tmp_path, "--help").stdout
    done = tandem(tmp_path, name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"tandem {name}" in done.stdout
    assert "python -m pipeline" not in done.stdout


@pytest.mark.parametrize(
    ("typed_name", "meant"), [("rnu", "run"), ("comparee", "compare"), ("model=cnn", "run")]
)
def test_an_unknown_subcommand_is_refused_with_the_nearest(tmp_path, typed_name, meant):
    done = tandem(tmp_path, typed_name)
    assert done.returncode == 1
    assert f"error: {typed_name}: must be one of run, verify" in done.stderr
    assert f"Did you mean tandem {meant}?" in done.stderr


# As bash calls it for a word that is being typed, after `eval "$(tandem -sc install=bash)"`.
IN_BASH = """
eval "$(tandem -sc install=bash)"
complete -p tandem
words=($COMP_LINE); COMP_CWORD=$((${#words[@]} - 1)); COMP_POINT=${#COMP_LINE}
hydra_bash_completion
echo "${COMPREPLY[@]}"
"""


def test_bash_completes_subcommands_and_the_arguments_of_run(own_conf):
    folder = own_conf.parent
    script = folder / "bin" / "tandem"  # as pip installs it
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom pipeline.cli.tandem import main\nmain()\n")
    script.chmod(0o755)
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}

    def completed(line):
        done = subprocess.run(
            ["bash", "-c", IN_BASH], cwd=folder, env=environment | {"COMP_LINE": line},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        installed, words = done.stdout.splitlines()
        assert installed.endswith("-F hydra_bash_completion tandem"), done.stdout
        return words.split()

    assert completed("tandem ver") == ["verify"]
    assert completed("tandem run model=m") == ["model=mine", "model=mlp"]
    query = "-sc", "query=bash"
    assert "train.epochs=" in tandem(folder, *query, COMP_LINE="tandem run seed=1 train.ep").stdout
    assert tandem(folder, *query, COMP_LINE="tandem compare out").stdout == ""
    refused = tandem(folder, "-sc", "install=cmd").stderr
    assert refused == "error: -sc install=cmd: must be -sc install=SHELL, with bash, fish, zsh\n"


def test_a_new_project_is_a_copy_under_its_own_name_and_replaces_nothing(tmp_path):
    done = tandem(tmp_path, "new", "apples")
    assert done.returncode == 0, done.stderr
    assert "tandem run -m experiment=mine backend=torch,jax" in done.stdout
    made = {str(path.relative_to(STARTER)) for path in STARTER.rglob("*.*") if path.is_file()}
    copied = {
        str(path.relative_to(tmp_path / "apples")) for path in (tmp_path / "apples").rglob("*.*")
    }
    made |= {f"sweeps/{path.name}" for path in SWEEPS.iterdir()}
    assert {name for name in made if "cache" not in name} == copied
    assert "sweeps/random.yaml" in copied
    assert (tmp_path / "apples" / "README.md").read_text().startswith("# apples\n")
    again = tandem(tmp_path, "new", "apples")
    assert again.returncode == 1
    assert (
        again.stderr == "error: apples: it exists already, and is not empty. Name a new folder.\n"
    )


def test_its_preset_has_its_model_data_and_loss(monkeypatch):
    monkeypatch.chdir(STARTER)
    config = composed("experiment=mine")
    assert (config.model.torch, config.model.jax) == ("in_torch:Net", "in_jax:Net")
    assert (config.task.torch, config.task.jax) == ("in_torch:loss", "in_jax:loss")
    assert (config.dataset.load, config.train.monitor) == ("my_data:load", "val/accuracy")


@pytest.mark.parametrize("words", [["/bin/tandem", "run"], ["/somewhere/run.py"]])
def test_a_run_is_known_by_its_command_line(words):
    code = "import sys; print('here', flush=True); sys.stdin.read()"
    command, pipe = [sys.executable, "-c", code, *words], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        child.stdout.readline()
        here = ProcessIdentity.current()
        assert ProcessIdentity(here.host, child.pid).is_running_elsewhere
        child.communicate()
    assert not ProcessIdentity(here.host, child.pid).is_running_elsewhere
