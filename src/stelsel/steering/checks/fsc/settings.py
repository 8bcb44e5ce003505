"""`fsc-target.toml`: what is tested, how the tester is reached, and how contracts get accepted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stelsel.base.settings import RelativePath, Settings

Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+:[0-9]{1,5}$", max_length=255)]
Https = Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+:[0-9]{1,5}$", max_length=255)]
ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,100}$")]


class TargetSettings(Settings):
    """The implementation that is tested: one peer."""

    peer_id: str = Field(description="its peer id")
    peer_name: str | None = Field(None, description="its peer name, as `/peer` should tell it")
    manager: Https = Field(description="address of its manager, https://host:port")
    inway: Https | None = Field(None, description="address of its inway; without it the inway is not tested")
    outway: Url | None = Field(
        None, description="address of its outway, http://host:port; without it the outway is not tested"
    )
    grant_hash_header: str = Field(
        "Fsc-Grant-Hash",
        description="header by which a client tells the outway which grant it means (not in the standard)",
    )
    outway_key_thumbprint: str | None = Field(
        None,
        description="SHA-256 (hex) of the public key of its outway's certificate; default: that of the first "
        "certificate in its key set",
    )
    service: ServiceName = Field(
        "fsc-check", description="a service that its inway offers, with the tester's echo service behind it"
    )
    delegated_service: ServiceName = Field(
        "fsc-check-delegated", description="another one, with the same behind it, offered on behalf of the third peer"
    )
    signing: str | None = Field(
        None,
        description="name of files (as `target` for target.pem and target.key) in `tester.certificates` with which its "
        "manager signs access tokens: then tokens are tried at its inway that its manager would never give",
    )


class TesterSettings(Settings):
    """The tester: three peers, an inway and a service of its own. The target must be able to reach all of them."""

    certificates: RelativePath = Field(description="folder with the tester's certificates and keys")
    first: Https = Field(description="address of the first peer's manager, https://host:port")
    second: Https = Field(description="address of the second peer's manager")
    third: Https = Field(description="address of the third peer's manager")
    inway: Https = Field(description="address of the first peer's inway")
    echo: Url = Field(description="address of the service that the target puts behind its inway, http://host:port")
    bind: str | None = Field(None, description="address to listen on; default: the host in each address")


class ApprovalSettings(Settings):
    """How the target accepts a contract that the tester proposed."""

    mode: Literal["automatic", "command", "manual", "node"] = Field(
        "manual",
        description="automatic: it accepts by itself; command: run `command`; manual: ask whoever runs the check; "
        "node: the target is a Stelsel node, with the file `node`",
    )
    command: tuple[str, ...] = Field(
        (), description="program and arguments that accept a contract; {content_hash} stands for its hash"
    )
    node: RelativePath | None = Field(None, description="the file of the Stelsel node that is tested")
    seconds: float = Field(10, gt=0, le=3600, description="time within which a contract must have been accepted")

    @model_validator(mode="after")
    def _complete(self) -> ApprovalSettings:
        if self.mode == "command" and not self.command:
            raise ValueError("the mode command needs a command")
        if self.mode == "node" and self.node is None:
            raise ValueError("the mode node needs the file of a node")
        return self


class CommandSettings(Settings):
    """What no address can do: putting the target's transaction log out of order."""

    break_log: tuple[str, ...] = Field((), description="program and arguments after which the log cannot be written")
    mend_log: tuple[str, ...] = Field((), description="program and arguments after which it can be written again")


class CheckTarget(Settings):
    """`fsc-target.toml`."""

    group_id: str = Field(description="the group's id (FSC Core 4.1.2)")
    trust_anchors: RelativePath = Field(description="PEM file with the trust anchors of the group")
    target: TargetSettings = Field(description="what is tested")
    tester: TesterSettings = Field(description="how the tester is reached")
    approval: ApprovalSettings = Field(default_factory=ApprovalSettings, description="how contracts get accepted")
    commands: CommandSettings = Field(default_factory=CommandSettings, description="what no address can do")
    transaction_id: Literal["uuidv7", "any"] = Field(
        "uuidv7",
        description="the form of transaction ids in the group's profile (Logging 3.4.1.1); Digikoppeling: uuidv7",
    )
    patience: float = Field(
        15, gt=0, le=3600, description="seconds to wait at most for a token to expire, where there is no other way"
    )
    scenario_seconds: float = Field(60, gt=0, le=7200, description="seconds that one scenario may take")
