"""A node reads the rules of its group and its own dialect from its files, and keeps to them."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from agreements_peers import CONSUMER, PROVIDER

from stelsel.base.certificates import KeyPair
from stelsel.base.errors import ConfigurationFault
from stelsel.base.settings import read_toml
from stelsel.demo.authority import Authority
from stelsel.demo.ports import free_ports
from stelsel.node import Node
from stelsel.settings import NodeSettings


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: the path of a unix socket has at most some hundred characters."""
    with tempfile.TemporaryDirectory(prefix="stelsel-") as path:
        yield Path(path)


def node_of(folder: Path, authority: Authority, group_lines: str, node_lines: str = "") -> Node:
    port = free_ports(1)[0]
    (folder / "anchors.pem").write_bytes(authority.root_pem)
    (folder / "list.pem").write_bytes(authority.revocation_list())
    authority.issue(folder, PROVIDER, "Bevolkingsregister")
    (folder / "group.toml").write_text(
        f'id = "groep"\nname = "Groep"\ntrust_anchors = "anchors.pem"\ndirectory_peer_id = "{PROVIDER}"\n'
        f'directory_address = "https://localhost:{port}"\n' + group_lines.format(port=port)
    )
    (folder / "node.toml").write_text(
        'data = "data"\ngroup = "group.toml"\n[peer]\ncertificate = "certificate.pem"\nkey = "key.pem"\n'
        f'[manager]\nlisten = "127.0.0.1:{port}"\naddress = "https://localhost:{port}"\n' + node_lines
    )
    return Node(read_toml(folder / "node.toml", NodeSettings))


def test_a_node_keeps_to_the_rules_in_the_file_of_its_group(folder: Path, authority: Authority) -> None:
    rules = 'ports = [{port}]\ntls_versions = ["TLSv1.3"]\nrevocation_lists = "list.pem"\n'
    dialect = 'token_lifetime = 60\ncatch_up_interval = 0\n[dialect]\nparty_error_codes = "one"\n'
    client = KeyPair.load(*authority.issue(folder / "client", CONSUMER, "Gemeente"))

    async def scenario() -> None:
        node = node_of(folder, authority, rules, dialect)
        await node.start()
        try:
            address = node.settings.manager.address
            context = client.client_context(node.anchors)
            async with httpx.AsyncClient(verify=context, base_url=address, trust_env=False) as http:
                told: dict[str, Any] = (await http.get("/v1/peer")).json()
                assert told["enabled_extensions"] == {"EXTENSION_TRANSACTION_LOGGING": "1.1.0"}
                headers = {"Fsc-Manager-Address": "https://localhost:1"}
                refused = await http.put("/v1/announce", headers=headers)
                assert "port" in refused.json()["message"]
                assert (await http.get("/v1/logs")).json() == {"records": [], "pagination": {"next_cursor": ""}}
                (folder / "list.pem").write_bytes(authority.revocation_list(client.chain, days=30))
                assert node.anchors.revocations is not None
                node.anchors.revocations.refresh()
                code = (await http.get("/v1/peer")).headers["fsc-error-code"]
                assert code == "ERROR_CODE_PEER_CERTIFICATE_VERIFICATION_FAILED"
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.load_verify_locations(cadata=authority.root_pem.decode())
            old.load_cert_chain(client.certificate_file, client.key_file)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            async with httpx.AsyncClient(verify=old, trust_env=False) as http:
                with pytest.raises(httpx.ConnectError):
                    await http.get(address + "/v1/peer")
        finally:
            await node.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ("", "port that the group does not allow"),
        ('ports = []\nsignature_algorithms = ["RS256"]\n', "no signatures with this kind of key"),
        ('ports = []\nrevocation_lists = "nowhere"\n', "no revocation lists"),
        ('ports = []\npeer_id_element = "commonName"\n', "commonName is not an OIN"),
        ('ports = []\ntrust_anchors_ = "x"\n', "unknown key"),
    ],
)
def test_a_node_that_cannot_keep_to_them_does_not_start(
    rules: str, fault: str, folder: Path, authority: Authority
) -> None:
    with pytest.raises(ConfigurationFault, match=fault):
        node_of(folder, authority, rules)
